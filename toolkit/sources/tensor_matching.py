"""Match the tensors of a checkpoint with the rules of an architecture; nothing is left over on either side."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial

from toolkit.architectures.parts.base import Architecture, Rules, TensorRule
from toolkit.architectures.parts.dimensions import dimension
from toolkit.architectures.parts.row_sources import Reshaped, moves_whole_rows
from toolkit.architectures.parts.transforms import element_values, stacked
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.checkpoint.tensor import CheckpointTensor
from toolkit.errors import TensorError
from toolkit.gguf.format import Metadata, ValueType, array
from toolkit.gguf.rows import RowSource
from toolkit.model_source import KeptBlocks, SourceTensor
from toolkit.quantized_sources.quantized_format import DequantizedTensor
from toolkit.quantized_sources.repack import repacked
from toolkit.sources.tensor_names import layers_present

MAX_TENSORS = 1 << 19
"""Twice as many as 1,024 experts in 80 blocks have."""


@dataclass(frozen=True)
class Matching:
    """The tensors of the GGUF file, and the stored ones that are left out (name -> why) or become metadata."""

    tensors: tuple[SourceTensor, ...]
    left_out: dict[str, str]
    metadata: Metadata = field(default_factory=dict)
    """the numbers that the checkpoint stores as tensors, and GGUF as metadata"""


@dataclass(frozen=True)
class Instance:
    """A rule for one block: the stored tensors that it asks for (several, if they are experts to stack)."""

    rule: TensorRule
    names: tuple[str, ...]
    target: str


def match_tensors(
    architecture: Architecture,
    config: ModelConfig,
    stored: Mapping[str, CheckpointTensor],
) -> Matching:
    """Return the tensors in the order of the rules: before the blocks, block by block.

    Raises TensorError if a required tensor is missing, a shape differs from what the config implies, a dtype cannot be
    read, or a tensor has no rule.
    """
    n_layer = architecture.block_count(config)
    _check_layers(n_layer, layers_present(stored, architecture.naming))
    tensors: list[SourceTensor] = []
    used: set[str] = set()
    for alternatives in instances(architecture.tensors, n_layer, config).values():
        present = (each for each in alternatives if any(name in stored for name in each.names))
        chosen = next(present, alternatives[0])
        missing = next((name for name in chosen.names if name not in stored), None)
        if missing is None:
            used.update(chosen.names)
            tensors.append(_tensor(chosen, stored, config))
        elif chosen.rule.is_required(config) or not stored.keys().isdisjoint(chosen.names):
            raise TensorError(_missing(missing, chosen.rule, config))
    metadata = _scalars(architecture, n_layer, stored, used)
    left_out = _left_over(architecture, {name: stored[name] for name in set(stored) - used})
    return Matching(tuple(tensors), left_out, metadata)


def _scalars(
    architecture: Architecture, n_layer: int, stored: Mapping[str, CheckpointTensor], used: set[str]
) -> Metadata:
    """Read the tensors that hold one number a block; adds their names to `used`."""
    metadata: Metadata = {}
    for source, key in architecture.scalars.items():
        names = [source.format(layer=layer) for layer in range(n_layer)]
        missing = next((name for name in names if name not in stored), None)
        if missing is not None:
            raise TensorError(f"{missing} is missing; the architecture requires it")
        metadata[key] = array(ValueType.FLOAT32, (_number(stored[name]) for name in names))
        used.update(names)
    return metadata


def _number(tensor: CheckpointTensor) -> float:
    if math.prod(tensor.shape) != 1:
        raise TensorError(f"{tensor.name} has shape {list(tensor.shape)}, expected one number")
    return float(element_values(tensor.rows())[0])


def instances(rules: Rules, n_layer: int, config: ModelConfig) -> dict[str, list[Instance]]:
    """Return what each tensor of the GGUF file can be made of, in the order of the file."""
    by_target: dict[str, list[Instance]] = {}
    count = 0
    for layer in range(-1, n_layer):
        for rule in rules:
            if rule.per_layer is (layer >= 0) and (rule.layers is None or rule.layers(config, layer)):
                instance = Instance(rule, _names(rule, layer, config), rule.target.format(layer=layer))
                by_target.setdefault(instance.target, []).append(instance)
                count += len(instance.names)
        if count > MAX_TENSORS:
            raise TensorError(f"config.json describes more than {MAX_TENSORS:,} tensors, which no model has")
    return by_target


def _names(rule: TensorRule, layer: int, config: ModelConfig) -> tuple[str, ...]:
    count = dimension(rule.count, config).length if "{expert}" in rule.source else 1
    return tuple(rule.source.format(layer=layer, expert=expert) for expert in range(count))


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
    if rule.target == "output.weight":
        tied = config.flag("tie_word_embeddings", False)
        return f"{name} is missing though tie_word_embeddings is {str(tied).lower()} in config.json"
    because = f", which {rule.required} in config.json asks for" if isinstance(rule.required, str) else ""
    return f"{name} is missing{because}; the architecture requires it"


def _tensor(instance: Instance, stored: Mapping[str, CheckpointTensor], config: ModelConfig) -> SourceTensor:
    rule = instance.rule
    implied = tuple(dimension(expression, config).length for expression in rule.shape)
    tensors = [stored[name] for name in instance.names]
    for tensor in tensors:
        _check_shape(rule, tensor, implied, config)
    rows = _transformed(rule, [_as_implied(tensor, implied) for tensor in tensors], config)
    packed = [tensor for tensor in tensors if isinstance(tensor, DequantizedTensor)]
    if len(packed) < len(tensors):
        return SourceTensor(instance.target, rows)
    share = math.prod(rows.shape) / sum(math.prod(tensor.shape) for tensor in packed)
    n_bytes = round(sum(tensor.n_bytes for tensor in packed) * share)
    return SourceTensor(instance.target, rows, n_bytes, cache(partial(_kept_blocks, rule, packed, config)))


def _as_implied(tensor: CheckpointTensor, implied: tuple[int, ...]) -> RowSource:
    """Return a tensor's rows in the shape that the config implies: an axis of length 1 may be at any place without moving a number."""
    rows = tensor.rows()
    return rows if tensor.shape == implied else Reshaped(rows, implied)


def _transformed(rule: TensorRule, sources: Sequence[RowSource], config: ModelConfig) -> RowSource:
    rows = stacked(tuple(sources)) if "{expert}" in rule.source else sources[0]
    return rule.transform(rows, config) if rule.transform else rows


def _kept_blocks(rule: TensorRule, packed: Sequence[DequantizedTensor], config: ModelConfig) -> KeptBlocks | None:
    """Return the codes in quant blocks of GGUF, None if it lacks their grid or the rule does more than move whole rows."""
    parts = [blocks for tensor in packed if (blocks := repacked(tensor)) is not None]
    if len(parts) < len(packed) or len({blocks.rows.type for blocks in parts}) > 1:
        return None
    rows = _transformed(rule, [blocks.rows for blocks in parts], config)
    if not moves_whole_rows(rows):
        return None
    return KeptBlocks(rows, max(blocks.worst_difference for blocks in parts))


def refuse_empty(tensor: CheckpointTensor) -> None:
    """Refuse a tensor without elements, which DeepSpeed leaves where it saved a partitioned model.

    Raises TensorError.
    """
    if 0 in tensor.shape:
        raise TensorError(
            f"{tensor.name} has shape {list(tensor.shape)}: no weights are stored; "
            "a ZeRO-3 checkpoint must be gathered first (zero_to_fp32.py)"
        )


def _check_shape(rule: TensorRule, tensor: CheckpointTensor, implied: tuple[int, ...], config: ModelConfig) -> None:
    refuse_empty(tensor)
    if tensor.shape == implied or _but_for_ones(tensor.shape) == _but_for_ones(implied) != ():
        return
    axis = next((i for i, (a, b) in enumerate(zip(tensor.shape, implied, strict=False)) if a != b), 0)
    raise TensorError(
        f"{tensor.name} has shape {list(tensor.shape)}, but config.json implies {list(implied)} "
        f"({dimension(rule.shape[axis], config).key} = {implied[axis]})"
    )


def _but_for_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the lengths of a kernel's axes except 1, which MLX puts last; nothing for tensors that are not kernels."""
    return tuple(length for length in shape if length != 1) if len(shape) == 3 else ()


def why_dropped(architecture: Architecture, name: str) -> str | None:
    """Return why an architecture leaves out a tensor of that name, or None if it does not."""
    return next((why for pattern, why in architecture.dropped.items() if re.fullmatch(pattern, name)), None)


def _left_over(architecture: Architecture, tensors: Mapping[str, CheckpointTensor]) -> dict[str, str]:
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
