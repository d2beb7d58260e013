"""The middle of the toolkit: a conversion is a list of tensor plans. Making it reads no weight."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy
from numpy.typing import NDArray

from toolkit.errors import GgufError, ImatrixError, MetadataError
from toolkit.gguf.format import MAX_INTEGER, Metadata, string, uint32
from toolkit.gguf.ggml_types import F16, F32, FLOAT_TYPES, TensorType
from toolkit.gguf.layout import Layout, bits_per_weight, lay_out
from toolkit.gguf.rows import RowSource
from toolkit.importance.matrix import Imatrix
from toolkit.machine.mapped_files import WatchedFile
from toolkit.model_source import ModelSource, SourceTensor
from toolkit.quant_profile import FILE_TYPES, QuantProfile, TypeChoice, TypeOverride, assign_types
from toolkit.rounding.row_rounding import MomentsRounding

ROUNDING, CALIBRATED = "quantize.rounding", "calibrated"
"""key, and its value in files whose rows may be further from the source than a rounding puts them"""
_MOST_NAMES = 3


@dataclass(frozen=True)
class TensorPlan:
    """One tensor of the output: its name, where its rows come from, and what they become."""

    name: str
    shape: tuple[int, ...]
    type: TensorType
    source: RowSource
    importance: NDArray[numpy.float32] | None = None
    """float32 [matrices * row length]: the weight of every column's error, for each expert in turn"""
    fallback_from: TensorType | None = None
    kept: bool = False
    """whether its quant blocks are those of the source, instead of weights that are converted"""
    worst_difference: float = 0.0
    """of a weight from the source's, where it is kept: 0, or one rounding of a minimum to float16"""
    rounding: MomentsRounding | None = None
    """what rounds its rows in place of ggml"""

    @property
    def is_converted(self) -> bool:
        """Tell whether its weights become another type, instead of being taken over as they are."""
        return self.source.type is not self.type and not self.kept

    @property
    def n_bytes(self) -> int:
        """Return the bytes of the tensor's data."""
        return self.type.tensor_bytes(self.shape)

    @property
    def n_weights(self) -> int:
        """Return the number of weights."""
        return math.prod(self.shape)

    @property
    def rows_per_matrix(self) -> int:
        """Return the rows that share one slice of the importance matrix: those of one expert."""
        return self.shape[-2] if len(self.shape) > 1 else 1


@dataclass(frozen=True)
class ConversionPlan:
    """All that a GGUF file will hold, and where."""

    profile: QuantProfile
    metadata: Metadata
    tensors: tuple[TensorPlan, ...]
    layout: Layout
    remarks: tuple[str, ...] = ()
    """warnings: what the user may not have intended"""
    files: tuple[WatchedFile, ...] = ()
    """those that rows are read from"""

    @property
    def file_bytes(self) -> int:
        """Return the size of the file to the byte."""
        return self.layout.file_bytes

    @property
    def bits_per_weight(self) -> float:
        """Return the bits of tensor data per weight."""
        return bits_per_weight(self.tensors)

    @property
    def typical_bits(self) -> float:
        """Return the bits per weight of the type that most weights get, which says what quality to expect."""
        return self.bits_per_weight if self.profile.keep else self.profile.default.bits_per_weight

    @property
    def fallback_share(self) -> float:
        """Return the share of weights whose type is not the one that the profile asks for, 0 to 1."""
        fallen = sum(plan.n_weights for plan in self.tensors if plan.fallback_from is not None)
        return fallen / sum(plan.n_weights for plan in self.tensors)


def plan_conversion(
    source: ModelSource,
    profile: QuantProfile,
    imatrix: Imatrix | None = None,
    overrides: Sequence[TypeOverride] = (),
    rounding: MomentsRounding | None = None,
) -> ConversionPlan:
    """Return the plan of a conversion; `rounding` takes the place of ggml's search for the tensors that it covers.

    Raises ProfileError for overrides that match nothing, ImatrixError if a tensor's type needs an importance matrix that
    is not given.
    """
    shapes = [(tensor.name, tensor.shape) for tensor in source.tensors]
    choices = assign_types(profile, shapes, source.traits, imatrix is not None, overrides)
    plans = tuple(
        _plan_kept(tensor, choices[tensor.name])
        if profile.keep and not _overridden(tensor, overrides)
        else _plan(
            tensor.name,
            tensor.source,
            choices[tensor.name],
            imatrix,
            same_type=_keeps_source_type(source, tensor, choices, overrides),
        )
        for tensor in source.tensors
    )
    if rounding is not None:
        plans = tuple(_calibrated(plan, rounding) for plan in plans)
    _require_importance(plans, choices, has_matrix=imatrix is not None)
    metadata = source.metadata | {"general.file_type": uint32(_file_type(source, profile, plans))}
    if rounding is not None:
        metadata |= {ROUNDING: string(CALIBRATED)}
    mixture = assign_types(profile, shapes, source.traits, imatrix is not None) if overrides else choices
    remarks = _warn_of_shifted_types(plans, mixture, choices, overrides)
    return ConversionPlan(profile, metadata, plans, lay_out(metadata, plans), remarks, source.files)


def _warn_of_shifted_types(
    plans: Sequence[TensorPlan],
    mixture: Mapping[str, TypeChoice],
    choices: Mapping[str, TypeChoice],
    overrides: Sequence[TypeOverride],
) -> tuple[str, ...]:
    """Return a warning that names the tensors which no override names and which get another type because of them.

    llama.cpp does not count a tensor that is overridden, so the next one of its role takes its place in the mixture.
    """
    changed = [
        f"{plan.name} ({plan.type.name} for {mixture[plan.name].type.name})"
        for plan in plans
        if plan.type is choices[plan.name].type is not mixture[plan.name].type
        and not any(override.names(plan.name) for override in overrides)
    ]
    if not changed:
        return ()
    more = f" and {len(changed) - _MOST_NAMES} more" if len(changed) > _MOST_NAMES else ""
    return (
        f"--tensor-type changes {len(changed)} tensors that it does not name, since llama.cpp leaves those that it names out of "
        f"its count of layers: {', '.join(changed[:_MOST_NAMES])}{more}",
    )


def _keeps_source_type(
    source: ModelSource, tensor: SourceTensor, choices: dict[str, TypeChoice], overrides: Sequence[TypeOverride]
) -> bool:
    """Tell whether a tensor keeps the type of its source.

    Of a GGUF file, those that no profile quantizes do; of a checkpoint, those whose quant blocks are GGUF's own (MXFP4
    experts), unless the user overrides the type.
    """
    if source.keeps_types:
        return not choices[tensor.name].quantizable
    return tensor.source.type.quantized and not _overridden(tensor, overrides)


def _overridden(tensor: SourceTensor, overrides: Sequence[TypeOverride]) -> bool:
    return any(override.names(tensor.name) for override in overrides)


def _plan_kept(tensor: SourceTensor, choice: TypeChoice) -> TensorPlan:
    """Return the plan of a tensor that is stored as its source has it, as far as GGUF has a type for that.

    What has to be dequantized becomes F16: as exact as the scales of most formats, at half the size of the F32 in which
    it is computed.
    """
    if choice.type is F32 and not choice.quantizable:
        return TensorPlan(tensor.name, tensor.shape, F32, tensor.source)
    blocks = tensor.blocks()
    if blocks is not None:
        return TensorPlan(
            tensor.name,
            tensor.shape,
            blocks.rows.type,
            blocks.rows,
            kept=True,
            worst_difference=blocks.worst_difference,
        )
    type_ = tensor.source.type
    if tensor.packed_bytes is not None and not type_.quantized:
        return TensorPlan(tensor.name, tensor.shape, F16, tensor.source)
    return TensorPlan(tensor.name, tensor.shape, type_, tensor.source, kept=type_.quantized)


def _plan(name: str, rows: RowSource, choice: TypeChoice, imatrix: Imatrix | None, *, same_type: bool) -> TensorPlan:
    type_ = rows.type if same_type else choice.type
    takes_importance = imatrix is not None and not same_type and type_ not in FLOAT_TYPES
    importance = imatrix.importance(name, rows.shape) if imatrix is not None and takes_importance else None
    return TensorPlan(name, rows.shape, type_, rows, importance, None if same_type else choice.fallback_from)


def _calibrated(plan: TensorPlan, rounding: MomentsRounding) -> TensorPlan:
    return replace(plan, rounding=rounding) if plan.is_converted and rounding.covers(plan.name, plan.type) else plan


def _file_type(source: ModelSource, profile: QuantProfile, plans: Sequence[TensorPlan]) -> int:
    """Return general.file_type; a file of floats with MXFP4 experts is named after the experts."""
    if profile.keep:
        return _kept_file_type(source, profile, plans)
    if profile.default in FLOAT_TYPES and any(plan.type.name == "MXFP4" for plan in plans):
        return FILE_TYPES["MOSTLY_MXFP4_MOE"]
    return profile.file_type


def _kept_file_type(source: ModelSource, profile: QuantProfile, plans: Sequence[TensorPlan]) -> int:
    """Return the file type of the source, else that of the type that takes most weights."""
    own = source.metadata.get("general.file_type")
    if own is not None and isinstance(own.value, int):
        if not 0 <= own.value <= MAX_INTEGER:
            raise MetadataError(
                f"general.file_type is {own.value}, which is not a file type: the file is damaged; choose a profile"
            )
        return own.value
    weights: Counter[str] = Counter()
    for plan in plans:
        weights[plan.type.name] += plan.n_weights
    if not weights:
        raise GgufError("the source has no tensors; it is not a model")
    most = weights.most_common(1)[0][0]
    names = {"F32": "ALL_F32", "MXFP4": "MOSTLY_MXFP4_MOE"}
    return FILE_TYPES.get(names.get(most, f"MOSTLY_{most}"), profile.file_type)


def _require_importance(plans: Sequence[TensorPlan], choices: dict[str, TypeChoice], *, has_matrix: bool) -> None:
    lacking = [plan for plan in plans if choices[plan.name].needs_imatrix and plan.importance is None]
    if not lacking:
        return
    if has_matrix:
        advice = f"raise them to a type that needs none: --tensor-type '{_pattern_of(lacking)}=q4_k'"
    else:
        advice = "make one with `gguf-toolkit imatrix MODEL.gguf --text FILE -o MATRIX`, and give --imatrix MATRIX"
    raise ImatrixError(
        f"{lacking[0].name} is to be stored as {lacking[0].type.name}, which needs an importance matrix "
        f"(tensors that lack one: {len(lacking)}): {advice}"
    )


def _pattern_of(plans: Sequence[TensorPlan]) -> str:
    """Return a regular expression for tensors: their names, or their blocks where there are many."""
    names = [plan.name for plan in plans]
    if len(names) > _MOST_NAMES:
        names = list(dict.fromkeys(re.sub(r"^(blk\.\d+\.).*", r"\1", name) for name in names))
    return "|".join(f"^{re.escape(name)}" for name in names)
