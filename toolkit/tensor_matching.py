"""Match the tensors of a checkpoint with the rules of an architecture; nothing is left over on either side."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy

from toolkit.architectures.base import Architecture, Dimension, TensorRule
from toolkit.errors import TensorError
from toolkit.ggml_types import F32, TYPES, TensorType
from toolkit.model_config import ModelConfig
from toolkit.model_source import SourceTensor
from toolkit.rows import Bytes, RowSource, StoredRows
from toolkit.safetensors_reader import StoredTensor
from toolkit.tensor_names import layers_present

FLOAT_DTYPES = {"F32": TYPES["F32"], "F16": TYPES["F16"], "BF16": TYPES["BF16"]}


@dataclass(frozen=True)
class DoubleRows:
    """Rows of a float64 tensor, delivered as float32."""

    shape: tuple[int, ...]
    data: Bytes
    type: TensorType = F32

    def read_rows(self, start: int, stop: int) -> Bytes:
        """Return uint8 [stop - start, row length * 4], rounded to float32."""
        length = self.shape[-1]
        doubles = numpy.ascontiguousarray(self.data[start * length * 8 : stop * length * 8]).view("<f8")
        with numpy.errstate(over="ignore"):  # an infinity is refused later, by name
            floats = doubles.astype("<f4")
        return floats.view(numpy.uint8).reshape(stop - start, length * 4)


@dataclass(frozen=True)
class Matching:
    """The tensors of the GGUF file, and the names that rules left out (name -> why)."""

    tensors: tuple[SourceTensor, ...]
    left_out: dict[str, str]


def match_tensors(
    architecture: Architecture,
    config: ModelConfig,
    stored: Mapping[str, StoredTensor],
    lengths: Mapping[str, Dimension],
) -> Matching:
    """Return the tensors in the order of the rules: before the blocks, block by block.

    Raises TensorError if a required tensor is missing, a shape differs from what the config implies, a dtype cannot be
    read, or a tensor has no rule.
    """
    _check_layers(config.integer("num_hidden_layers"), layers_present(stored))
    found: list[SourceTensor] = []
    used: set[str] = set()
    for rule, name, target in _instances(architecture.tensors, config.integer("num_hidden_layers")):
        if name in stored:
            used.add(name)
            found.append(SourceTensor(target, _source(rule, stored[name], config, lengths)))
        elif rule.is_required(config):
            raise TensorError(_missing(name, rule, config))
    return Matching(tuple(found), _left_over(architecture, {name: stored[name] for name in set(stored) - used}))


def _instances(rules: tuple[TensorRule, ...], n_layer: int) -> Iterator[tuple[TensorRule, str, str]]:
    yield from ((rule, rule.source, rule.target) for rule in rules if not rule.per_layer)
    for layer in range(n_layer):
        for rule in rules:
            if rule.per_layer:
                yield rule, rule.source.format(layer=layer), rule.target.format(layer=layer)


def _check_layers(n_layer: int, present: set[int]) -> None:
    missing = sorted(set(range(n_layer)) - present)
    surplus = sorted(present - set(range(n_layer)))
    if missing:
        raise TensorError(
            f"num_hidden_layers is {n_layer}, but model.layers.{missing[0]} has no tensor "
            f"({len(present)} blocks are stored, {_ranges(present)})"
        )
    if surplus:
        raise TensorError(f"num_hidden_layers is {n_layer}, but there are tensors of model.layers.{surplus[0]}")


def _ranges(layers: set[int]) -> str:
    return f"{min(layers)} to {max(layers)}" if layers else "none"


def _missing(name: str, rule: TensorRule, config: ModelConfig) -> str:
    if name == "lm_head.weight":
        tied = config.get("tie_word_embeddings", False)
        return f"lm_head.weight is missing though tie_word_embeddings is {str(tied).lower()} in config.json"
    because = f", which {rule.required} in config.json asks for" if isinstance(rule.required, str) else ""
    return f"{name} is missing{because}; the architecture requires it"


def _source(rule: TensorRule, tensor: StoredTensor, config: ModelConfig, lengths: Mapping[str, Dimension]) -> RowSource:
    _check_shape(rule, tensor, lengths)
    rows = _rows(tensor)
    return rule.transform(rows, config) if rule.transform else rows


def refuse_empty(tensor: StoredTensor) -> None:
    """Refuse a tensor without elements, which DeepSpeed leaves where it saved a partitioned model.

    Raises TensorError.
    """
    if 0 in tensor.shape:
        raise TensorError(
            f"{tensor.name} has shape {list(tensor.shape)}: no weights are stored; "
            "a ZeRO-3 checkpoint must be gathered first (zero_to_fp32.py)"
        )


def _check_shape(rule: TensorRule, tensor: StoredTensor, lengths: Mapping[str, Dimension]) -> None:
    refuse_empty(tensor)
    implied = tuple(lengths[name].length for name in rule.shape)
    if tensor.shape == implied:
        return
    axis = next((i for i, (a, b) in enumerate(zip(tensor.shape, implied, strict=False)) if a != b), 0)
    raise TensorError(
        f"{tensor.name} has shape {list(tensor.shape)}, but config.json implies {list(implied)} "
        f"({lengths[rule.shape[axis]].key} = {implied[axis]})"
    )


def _rows(tensor: StoredTensor) -> RowSource:
    if tensor.dtype in FLOAT_DTYPES:
        return StoredRows(tensor.shape, FLOAT_DTYPES[tensor.dtype], tensor.data)
    if tensor.dtype == "F64":
        return DoubleRows(tensor.shape, tensor.data)
    raise TensorError(
        f"{tensor.name} is {tensor.dtype}, which holds no plain weights; "
        "config.json has no quantization_config that would say what its numbers mean"
    )


def why_dropped(architecture: Architecture, name: str) -> str | None:
    """Return why an architecture leaves out a tensor of that name, or None if it does not."""
    return next((why for pattern, why in architecture.dropped.items() if re.fullmatch(pattern, name)), None)


def _left_over(architecture: Architecture, tensors: Mapping[str, StoredTensor]) -> dict[str, str]:
    left_out = {}
    for name, tensor in sorted(tensors.items()):
        why = "empty, they hold no weights" if 0 in tensor.shape else why_dropped(architecture, name)
        if why is None:
            raise TensorError(
                f"{name} has no place in the architecture {architecture.name} ({len(tensors)} tensors left over); "
                "nothing is dropped in silence"
            )
        left_out[name] = why
    return left_out
