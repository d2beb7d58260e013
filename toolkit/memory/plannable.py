"""What can be planned: the GGUF files that a model is, or could become, with shapes and types and no weights."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.conversion.tensor_plan import ConversionPlan, plan_conversion
from toolkit.errors import GgufError
from toolkit.gguf.format import EMBEDDING, Metadata, ModelKeys
from toolkit.gguf.ggml_types import mixture_name
from toolkit.gguf.layout import Placed, bits_per_weight
from toolkit.gguf.reader import read_gguf
from toolkit.memory.placement import ModelTensors, block_of
from toolkit.model_source import ModelSource
from toolkit.quant_profile import QuantProfile, load_profile

if TYPE_CHECKING:
    from toolkit.importance.matrix import Imatrix

KEEP = "KEEP"
LEAST_SHARE = 0.97
"""A profile may store some tensors with fewer bits than most get, but never so many that less than this share is left."""


@dataclass(frozen=True)
class Experts:
    """How many experts a block has, and how many of them a token needs; 0 and 0 without experts."""

    count: int = 0
    used: int = 0

    @property
    def share(self) -> float:
        """Return the share of the experts' bytes that a token moves."""
        return min(1.0, self.used / self.count) if self.count and self.used else 1.0


@dataclass(frozen=True)
class PlannedFile:
    """A GGUF file that exists or could be made."""

    profile: str
    bits: float
    """bits per weight of the type that most weights get"""
    file_bytes: int
    metadata: Metadata
    tensors: Sequence[Placed]
    conversion: ConversionPlan | None = None
    """how it would be made, if it does not exist"""

    @cached_property
    def model_tensors(self) -> ModelTensors:
        """Return the tensors by name and bytes."""
        return loaded_tensors(ModelKeys(self.metadata), self.tensors)

    @property
    def experts(self) -> Experts:
        """Return how many experts a block has, and how many of them a token needs."""
        keys = ModelKeys(self.metadata)
        return Experts(keys.count("expert_count"), keys.count("expert_used_count"))


@dataclass(frozen=True)
class PlannableModel:
    """A model with the profiles that it could be stored in; for a GGUF file that is the one it has."""

    name: str
    metadata: Metadata
    profiles: tuple[str, ...]
    make: Callable[[str], PlannedFile]
    least_bytes: Callable[[str], int] = lambda _profile: 0
    """a profile -> no fewer than these bytes of weights go to the GPUs of a whole offload; quick to tell"""
    path: Path | None = None
    """the file, if there is one already"""
    estimated_file_bytes: bool = False
    """whether the vocabulary was made up, so that the size of the file is not exact"""

    @property
    def trained_context(self) -> int | None:
        """Return the context length that the model was trained for, None if it is not stored."""
        return ModelKeys(self.metadata).integer("context_length")


def loaded_tensors(keys: ModelKeys, tensors: Iterable[Placed]) -> ModelTensors:
    """Return the tensors that llama.cpp loads: blocks that only predict further tokens are counted, and left out."""
    n_layer = keys.count("block_count")
    used = n_layer - keys.count("nextn_predict_layers")
    sizes = {tensor.name: tensor.type.tensor_bytes(tensor.shape) for tensor in tensors}
    loaded = {name: size for name, size in sizes.items() if (block_of(name) or 0) < used}
    causal = keys.metadata.get(f"{keys.architecture}.attention.causal")
    is_encoder = causal is not None and causal.value is False and "output_norm.weight" not in sizes
    return ModelTensors(loaded, n_layer, is_encoder)


def model_from_gguf(path: Path) -> PlannableModel:
    """Return the model in a GGUF file, or in a set of split files.

    Raises GgufError if the file is damaged or no model.
    """
    file = read_gguf(path)
    keys = ModelKeys(file.metadata)
    if not keys.architecture or not keys.count("block_count"):
        raise GgufError(
            f"{path} has no general.architecture or no block_count; it is not a model: give a GGUF file of one"
        )
    tensors = file.shaped_tensors
    file_type = keys.number("general.file_type")
    profile = (mixture_name(file_type) if file_type is not None else None) or "unknown"
    planned = PlannedFile(profile, bits_per_weight(tensors), file.file_bytes, file.metadata, tensors)
    return PlannableModel(path.name.removesuffix(".gguf"), file.metadata, (profile,), lambda _: planned, path=file.path)


def model_from_source(
    source: ModelSource,
    profiles: tuple[str, ...],
    imatrix: "Imatrix | None" = None,
    *,
    estimated_file_bytes: bool = False,
) -> PlannableModel:
    """Return a model that is not converted yet, in any of these profiles."""

    def make(name: str) -> PlannedFile:
        profile: QuantProfile = load_profile(name)
        plan = plan_conversion(source, profile, imatrix)
        return PlannedFile(profile.name, plan.typical_bits, plan.file_bytes, plan.metadata, plan.tensors, plan)

    weights = sum(math.prod(tensor.shape) for tensor in source.tensors if tensor.name != EMBEDDING)

    def least_bytes(name: str) -> int:
        profile = load_profile(name)
        if profile.keep:  # its types are those of the source, and not to be told from the profile
            return 0
        return round(weights * profile.default.bits_per_weight / 8 * LEAST_SHARE)

    return PlannableModel(source.name, source.metadata, profiles, make, least_bytes, None, estimated_file_bytes)


def profiles_worth_planning(source: ModelSource, ladder: tuple[str, ...]) -> tuple[str, ...]:
    """Return the ladder; of a source that is quantized on a grid of GGUF, that grid and what is smaller.

    More bits than it has cannot make such a model better.
    """
    if source.quantization is None:
        return ladder
    kept = plan_conversion(source, load_profile(KEEP))
    if not any(tensor.kept for tensor in kept.tensors):
        return ladder
    smaller = (name for name in ladder if plan_conversion(source, load_profile(name)).file_bytes < kept.file_bytes)
    return (KEEP, *smaller)
