"""From a config.json alone to a ModelSource: shapes from the architecture's rules, no weights, no vocabulary.

Enough to ask for memory; a conversion needs the whole checkpoint.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy

from toolkit.architectures import find_architecture
from toolkit.architectures.parts.base import Architecture, TensorRule
from toolkit.architectures.parts.common_metadata import architecture_metadata
from toolkit.architectures.parts.dimensions import dimension
from toolkit.architectures.parts.rope import check_rope_type, without_dynamic_scaling
from toolkit.architectures.parts.shortfalls import shortfalls
from toolkit.checkpoint.config_spelling import normalise
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.errors import CheckpointError, InputError, TensorError
from toolkit.gguf.format import QUANTIZATION_VERSION, string, uint32
from toolkit.gguf.ggml_types import BF16, TensorType
from toolkit.gguf.rows import Bytes, RowSource, generated, row_count
from toolkit.json_files import read_json_object
from toolkit.model_source import ModelSource, SourceTensor
from toolkit.quant_profile import ModelTraits
from toolkit.sources.model_card import hub_name
from toolkit.sources.tensor_matching import MAX_TENSORS, match_tensors

CONFIG = "config.json"


@dataclass(frozen=True)
class AbsentRows:
    """Rows that are not there; only their shape and type are known."""

    name: str
    shape: tuple[int, ...]
    type: TensorType = BF16

    def read_rows(self, _start: int, _stop: int) -> Bytes:
        """Refuse: there is nothing to read.

        Raises CheckpointError.
        """
        raise CheckpointError(f"{self.name} has no weights: the model was described by its config.json alone")


@dataclass(frozen=True)
class ImpliedTensor:
    """A tensor that a config implies, without the weights that a checkpoint would store."""

    name: str
    shape: tuple[int, ...]
    file: Path
    dtype: str = "BF16"
    is_number: bool = False
    """whether it is a parameter of the model that goes into the metadata; taken as 0"""

    @property
    def n_bytes(self) -> int:
        """Return the bytes that it would take in a checkpoint."""
        return row_count(self.shape) * BF16.row_bytes(self.shape[-1])

    def rows(self) -> RowSource:
        """Return rows that cannot be read, unless it is a number."""
        return generated(numpy.zeros(self.shape)) if self.is_number else AbsentRows(self.name, self.shape)


def source_from_config(path: Path) -> ModelSource:
    """Return the model that a config.json, or a folder that holds one, describes.

    Raises CheckpointError if there is no config.json, ConfigError if it is not understood or lacks a number.
    """
    file = path / CONFIG if path.is_dir() else path
    if not file.is_file():
        raise CheckpointError(f"{file} does not exist; give a config.json, or a folder that holds one")
    config = normalise(read_json_object(file))
    architecture, notes = find_architecture(config)
    config = architecture.fill_in(config)
    config, rope_warnings = without_dynamic_scaling(config, architecture.rope_types)
    check_rope_type(config, architecture.rope_types)
    architecture.check(config)
    implied = {tensor.name: tensor for tensor in implied_tensors(architecture, config, file)}
    matching = match_tensors(architecture, config, implied)
    computed = [
        SourceTensor(name, generated(values)) for name, values in architecture.generated_tensors(config).items()
    ]
    folder = file.parent.resolve()
    name = hub_name(folder) or folder.name or "model"
    general = {"general.architecture": string(architecture.name), "general.name": string(name)}
    metadata = general | architecture_metadata(architecture, config) | matching.metadata
    return ModelSource(
        name=name,
        metadata=metadata | {"general.quantization_version": uint32(QUANTIZATION_VERSION)},
        tensors=(*computed, *matching.tensors),
        traits=model_traits(architecture, config),
        keeps_types=False,
        warnings=(
            *notes,
            *rope_warnings,
            *shortfalls(config, metadata),
            f"{file} has no weights beside it: planned from the config alone",
        ),
    )


def implied_tensors(architecture: Architecture, config: ModelConfig, file: Path) -> Iterator[ImpliedTensor]:
    """Yield what a checkpoint with this config must hold; of alternatives, the first."""
    for source in architecture.scalars:
        names_of_numbers = (source.format(layer=layer) for layer in range(architecture.block_count(config)))
        yield from (ImpliedTensor(name, (1,), file, is_number=True) for name in names_of_numbers)
    targets: set[str] = set()
    names: set[str] = set()
    for layer in range(-1, architecture.block_count(config)):
        for rule in architecture.tensors:
            target = rule.target.format(layer=layer)
            if target in targets or not _applies(rule, layer, config):
                continue
            targets.add(target)
            shape = tuple(dimension(expression, config).length for expression in rule.shape)
            # One tensor of a checkpoint may serve several of the file.
            fresh = [name for name in _names(rule, layer, config) if name not in names]
            names.update(fresh)
            if len(names) > MAX_TENSORS:
                raise TensorError(f"config.json describes more than {MAX_TENSORS:,} tensors, which no model has")
            yield from (ImpliedTensor(name, shape, file) for name in fresh)


def _applies(rule: TensorRule, layer: int, config: ModelConfig) -> bool:
    if rule.per_layer is not (layer >= 0) or (rule.layers is not None and not rule.layers(config, layer)):
        return False
    return rule.is_required(config)


def _names(rule: TensorRule, layer: int, config: ModelConfig) -> list[str]:
    if "{expert}" not in rule.source:
        return [rule.source.format(layer=layer)]
    count = dimension(rule.count, config).length
    if count > 1 << 16:
        raise InputError(f"config.json: {rule.count} is {count}, which is more experts than any model has")
    return [rule.source.format(layer=layer, expert=expert) for expert in range(count)]


def model_traits(architecture: Architecture, config: ModelConfig) -> ModelTraits:
    """Return the traits of a model with this config."""
    return ModelTraits(
        architecture=architecture.name,
        n_layer=architecture.block_count(config),
        n_head=_count(config, "num_attention_heads"),
        n_head_kv=_count(config, "num_key_value_heads") or _count(config, "num_attention_heads"),
        n_expert=_count(config, "num_local_experts"),
    )


def _count(config: ModelConfig, key: str) -> int:
    return config.integer(key) if config.get(key) else 0
