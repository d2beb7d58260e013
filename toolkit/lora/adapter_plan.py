"""From an adapter and its base's config to the plan of a GGUF file: A as it is, B's rows where the base's rows go."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from toolkit.architectures import find_architecture
from toolkit.architectures.parts.base import Architecture, TensorRule
from toolkit.architectures.parts.dimensions import dimension
from toolkit.architectures.parts.row_sources import SelectedColumns, SelectedRows, Transposed
from toolkit.architectures.parts.transforms import scaled, stacked
from toolkit.checkpoint.config_spelling import normalise
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.conversion.tensor_plan import ConversionPlan, TensorPlan
from toolkit.errors import CheckpointError, TensorError
from toolkit.gguf.format import EMBEDDING, QUANTIZATION_VERSION, Metadata, ValueType, array, float32, string, uint32
from toolkit.gguf.layout import lay_out
from toolkit.gguf.rows import RowSource
from toolkit.json_files import read_json_object
from toolkit.lora.adapter import Adapter, LoraPair
from toolkit.lora.settings import MERGE, LoraSettings
from toolkit.machine.mapped_files import as_mapped
from toolkit.quant_profile import load_profile
from toolkit.sources.model_card import General, ParameterCount, general_metadata
from toolkit.sources.tensor_matching import Instance, instances
from toolkit.sources.tensor_names import MULTI_TOKEN_PREDICTION, MULTIMODAL


@dataclass(frozen=True)
class _Base:
    """The base model, as far as its config describes it."""

    architecture: Architecture
    config: ModelConfig

    def canonical(self, module: str) -> str:
        """Return the name under which rules speak of a module's weight."""
        naming = self.architecture.naming
        if MULTIMODAL.fullmatch(f"{module}.weight"):
            raise TensorError(f"{module} belongs to the vision or audio part; llama.cpp adapts the language model only")
        if MULTI_TOKEN_PREDICTION.fullmatch(f"{module}.weight"):
            return self.architecture.renamed(f"{module.removeprefix('model.')}.weight", self.config)
        block = re.fullmatch(rf"(?:.*\.)?({naming.blocks}\.\d+\..+)", module)
        if block:
            return self.architecture.renamed(f"model.{block[1]}.weight", self.config)
        known = {naming.embedding: naming.embedding_tensor, naming.output: naming.output_tensor}
        return known.get(module.rpartition(".")[2], f"{module}.weight")


def plan_adapter(adapter: Adapter, base_config: Path, profile_name: str) -> tuple[ConversionPlan, General]:
    """Return the plan of the adapter's GGUF file, and what its files say of its name.

    `base_config` is the base's config.json or a directory that holds it; `profile_name` one of f32, f16, bf16.

    Raises CheckpointError, ConfigError or TensorError if the adapter does not belong to such a base.
    """
    base = _read_base(base_config)
    type_ = load_profile(profile_name).default
    pairs = _by_canonical_name(base, adapter)
    _refuse_tied(base, pairs)
    matrices = [
        matrix for instance in _chosen(base, pairs) for matrix in _matrices(instance, base, pairs, adapter.settings)
    ]
    tensors = tuple(TensorPlan(name, rows.shape, type_, rows) for name, rows in matrices)
    general = general_metadata(adapter.directory.resolve(), base.architecture.name, _count(tensors))
    metadata = general.metadata | _adapter_metadata(adapter.settings)
    files = as_mapped(adapter.directory.iterdir())
    return ConversionPlan(
        load_profile(profile_name), metadata, tensors, lay_out(metadata, tensors), files=files
    ), general


@dataclass(frozen=True)
class _Named:
    """A pair with the name of its module in the adapter."""

    module: str
    pair: LoraPair


_Pairs = Mapping[str, _Named]


def _by_canonical_name(base: _Base, adapter: Adapter) -> dict[str, _Named]:
    pairs: dict[str, _Named] = {}
    for module, pair in adapter.pairs.items():
        name = base.canonical(module)
        if name in pairs:
            raise TensorError(f"{module} and {pairs[name].module} are the same module in two styles of naming")
        pairs[name] = _Named(module, pair)
    return pairs


def _read_base(path: Path) -> _Base:
    file = path / "config.json" if path.is_dir() else path
    if not file.is_file():
        raise CheckpointError(
            f"{file} does not exist; the config.json of the base model is needed: give it with --base"
        )
    config = normalise(read_json_object(file))
    architecture, _ = find_architecture(config)
    return _Base(architecture, architecture.fill_in(config))


def _chosen(base: _Base, pairs: _Pairs) -> Iterator[Instance]:
    """Yield the tensors of the base that the adapter changes; none of its pairs may be left over."""
    used: set[str] = set()
    architecture, config = base.architecture, base.config
    for alternatives in instances(architecture.tensors, architecture.block_count(config), config).values():
        chosen = next((each for each in alternatives if any(name in pairs for name in each.names)), None)
        if chosen is None:
            continue
        lacking = next((name for name in chosen.names if name not in pairs), None)
        if lacking is not None:
            raise TensorError(f"the adapter has some of the experts of {chosen.target}, but not {lacking}")
        used.update(chosen.names)
        yield chosen
    left_over = sorted(pairs[name].module for name in pairs.keys() - used)
    if left_over:
        raise TensorError(
            f"{left_over[0]} is not a module of {architecture.name} with {architecture.block_count(config)} blocks "
            f"({len(left_over)} left over): is this the base that the adapter was trained on?"
        )


def _refuse_tied(base: _Base, pairs: _Pairs) -> None:
    """Refuse adapters of the output or the embedding where these are tied: llama.cpp lacks the one tensor, and aborts at the other."""
    naming = base.architecture.naming
    named = next((pairs[name] for name in (naming.output_tensor, naming.embedding_tensor) if name in pairs), None)
    if named is not None and base.config.flag("tie_word_embeddings", False):
        raise TensorError(
            f"the adapter changes {named.module}, but in the base the embedding is the output too (tie_word_embeddings), "
            f"for which llama.cpp takes no adapter: {MERGE}"
        )


def _matrices(
    instance: Instance, base: _Base, pairs: _Pairs, settings: LoraSettings
) -> Iterator[tuple[str, RowSource]]:
    """Yield the names and rows of A and B; of experts all As and all Bs, stacked."""
    named = [pairs[name] for name in instance.names]
    for pair in named:
        _check_shapes(pair, instance.rule, base.config, embedding=instance.target == EMBEDDING)
    if len({each.pair.rank for each in named}) > 1:
        raise TensorError(f"the adapter's ranks differ among the experts of {instance.target}; {MERGE}")
    first, second = zip(*(_moved(each, instance.rule, base, settings) for each in named), strict=True)
    stack = "{expert}" in instance.rule.source
    a, b = (stacked(first), stacked(second)) if stack else (first[0], second[0])
    # llama.cpp looks tokens up in A as it does in an embedding.
    yield f"{instance.target}.lora_a", Transposed(a) if instance.target == EMBEDDING else a
    yield f"{instance.target}.lora_b", b


def _check_shapes(named: _Named, rule: TensorRule, config: ModelConfig, *, embedding: bool) -> None:
    outputs, inputs = (dimension(expression, config).length for expression in rule.shape)
    pair = named.pair
    shape = (pair.a.shape[1], pair.b.shape[0]) if embedding else (pair.b.shape[0], pair.a.shape[1])
    if shape != (outputs, inputs):
        raise TensorError(
            f"{named.module}: the adapter is for a weight of {list(shape)}, the base's config.json implies "
            f"{[outputs, inputs]}: is this the base that the adapter was trained on?"
        )


def _moved(named: _Named, rule: TensorRule, base: _Base, settings: LoraSettings) -> tuple[RowSource, RowSource]:
    """Return A with its columns where the base's columns go, and B with its rows where the base's rows go.

    B is multiplied with the factor that llama.cpp's alpha / rank leaves out.
    """
    columns, rows = named.pair.a, named.pair.b
    factor = settings.scale(named.module, named.pair.rank) * named.pair.rank / settings.file_alpha
    if not math.isclose(factor, 1.0, rel_tol=1e-9):
        rows = scaled(rows, factor)
    if rule.transform is None:
        return columns, rows
    moved = rule.transform(rows, base.config)
    if isinstance(moved, SelectedRows) and moved.shape[1:] == rows.shape[1:]:
        return columns, moved
    moved = rule.transform(columns, base.config)
    if isinstance(moved, SelectedColumns) and moved.source is columns and moved.shape == columns.shape:
        return moved, rows
    raise TensorError(
        f"{named.module}: what {base.architecture.name} does to this weight is more than an order of rows or of columns, "
        f"which an adapter cannot follow: {MERGE}"
    )


def _adapter_metadata(settings: LoraSettings) -> Metadata:
    metadata: Metadata = {
        "general.type": string("adapter"),
        "adapter.type": string("lora"),
        "adapter.lora.alpha": float32(settings.file_alpha),
        "general.quantization_version": uint32(QUANTIZATION_VERSION),
    }
    if settings.invocation_tokens:
        metadata["adapter.alora.invocation_tokens"] = array(ValueType.UINT32, settings.invocation_tokens)
    return metadata


def _count(tensors: Sequence[TensorPlan]) -> ParameterCount:
    """Count the weights that are changed; below zero, which is how the gguf library knows an adapter."""
    changed = sum(b.n_weights // b.shape[-1] * a.shape[-1] for a, b in zip(tensors[::2], tensors[1::2], strict=True))
    return ParameterCount(-changed, changed, 0, 0)
