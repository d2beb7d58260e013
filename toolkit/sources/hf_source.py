"""From a Hugging Face checkpoint to a ModelSource: config, tensors and vocabulary, reconciled before the first byte."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy

from toolkit.architectures import find_architecture
from toolkit.architectures.parts.base import Architecture, Naming
from toolkit.architectures.parts.common_metadata import architecture_metadata
from toolkit.architectures.parts.prediction import STORED, prediction_layers, predicts
from toolkit.architectures.parts.rope import check_rope_type, without_dynamic_scaling
from toolkit.architectures.parts.shortfalls import shortfalls
from toolkit.checkpoint.checkpoint import INDEX, Checkpoint, open_checkpoint
from toolkit.checkpoint.config_spelling import normalise, text_part
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.checkpoint.tensor import CheckpointTensor
from toolkit.errors import CheckpointError, TensorError
from toolkit.gguf.format import QUANTIZATION_VERSION, uint32
from toolkit.gguf.rows import generated, row_count
from toolkit.machine.mapped_files import as_mapped
from toolkit.model_source import ModelSource, SourceTensor
from toolkit.quantized_sources.registry import decode_checkpoint
from toolkit.sources.config_source import model_traits
from toolkit.sources.metadata_overrides import NO_OVERRIDES, MetadataOverrides
from toolkit.sources.model_card import count_parameters, general_metadata
from toolkit.sources.pooling import is_pooled, read_pooling
from toolkit.sources.reranker import role_of
from toolkit.sources.shifted_norms import with_norms_as
from toolkit.sources.tensor_matching import match_tensors, refuse_empty, why_dropped
from toolkit.sources.tensor_names import (
    MULTI_TOKEN_PREDICTION,
    NamedTensors,
    canonical_names,
    layers_present,
    unwrapped,
)
from toolkit.tokenizer import TokenizerRequest, read_tokenizer
from toolkit.units import format_size

_PREDICTION_LAYER = re.compile(r"mtp\.layers\.(\d+)\.")


def source_from_checkpoint(
    directory: Path,
    pre: str | None = None,
    *,
    overrides: MetadataOverrides = NO_OVERRIDES,
    dense_modules: bool = False,
    norms: str = "checked",
) -> ModelSource:
    """Return the model in a checkpoint directory; `pre` overrides the name of the BPE pre-tokenizer.

    `overrides` replace what its files say of name and authorship. With `dense_modules` the layers that an
    embedding passes after pooling are part of it. `norms` is one of shifted_norms.NORMS: whether norms
    that llama.cpp wants with 1 added have it already.

    Raises CheckpointError, ConfigError, TensorError or TokenizerError, each before any weight but those of norms is read.
    """
    stored = unwrapped(open_checkpoint(directory))
    config = normalise(stored.config)
    architecture, notes = find_architecture(config)
    checkpoint, quantization_warnings = decode_checkpoint(stored)
    reconciled = _reconciled(checkpoint, architecture, architecture.fill_in(config))
    rows, styles = reconciled.config.integer("vocab_size"), architecture.vocabularies
    tokenizer = read_tokenizer(TokenizerRequest(directory, _raw_text_config(checkpoint), rows, styles, pre))
    role = role_of(directory, architecture, tokenizer.metadata)
    architecture = role.architecture
    architecture, norm_warnings = with_norms_as(norms, architecture, reconciled.config, reconciled.tensors)
    matching = match_tensors(architecture, reconciled.config, reconciled.tensors)
    tensors = (*_generated(architecture, reconciled.config), *matching.tensors)
    own = architecture_metadata(architecture, reconciled.config)
    traits = model_traits(architecture, reconciled.config)
    count = count_parameters([(tensor.name, tensor.shape) for tensor in tensors])
    general = general_metadata(directory.resolve(), architecture.name, count, overrides)
    own |= {"general.quantization_version": uint32(QUANTIZATION_VERSION)}
    pooling = read_pooling(directory, architecture, reconciled.config, dense_modules=dense_modules)
    return ModelSource(
        name=general.stem,
        metadata=general.metadata | own | pooling.metadata | matching.metadata | tokenizer.metadata | role.metadata,
        tensors=(*pooling.tensors, *tensors),
        traits=traits,
        keeps_types=False,
        quantization=checkpoint.quantization,
        warnings=(
            *stored.warnings,
            *notes,
            *general.warnings,
            *role.warnings,
            *quantization_warnings,
            *reconciled.warnings,
            *norm_warnings,
            *shortfalls(reconciled.config, own),
            *tokenizer.warnings,
            *pooling.warnings,
            *reconciled.summary,
        ),
        notes=(*checkpoint.notes, *_summary(matching.left_out)),
        n_stored=len(stored.tensors),
        left_out={**checkpoint.left_out, **reconciled.left_out, **matching.left_out},
        files=as_mapped(tensor.file for tensor in (*stored.tensors.values(), *pooling.stored)),
    )


@dataclass(frozen=True)
class _Reconciled:
    """A config that agrees with the tensors, and the tensors of the model under canonical names."""

    config: ModelConfig
    tensors: dict[str, CheckpointTensor]
    warnings: tuple[str, ...]
    summary: tuple[str, ...]
    """sentences about tensors that are left out because they do not belong to the model"""
    left_out: dict[str, str]


def _reconciled(checkpoint: Checkpoint, architecture: Architecture, config: ModelConfig) -> _Reconciled:
    """Compare config and tensors with each other, and refuse what llama.cpp would run wrongly."""
    naming = architecture.naming
    named = canonical_names(checkpoint.tensors, naming)
    _refuse_lost(checkpoint, architecture, config)
    promised = prediction_layers(config)
    config = _with_prediction_layers(architecture, config, named.tensors)
    prediction_warnings = _unkept_promise(promised, architecture, config, named)
    renamed = _renamed(architecture, config, named.tensors)
    tensors, warnings = _one_output(renamed, config, naming)
    tied = {renamed[name].name: "the embedding stands for it" for name in renamed.keys() - tensors.keys()}
    if architecture.pools and naming.output_tensor not in tensors and is_pooled(checkpoint.directory):
        # An embedder predicts nothing, so a head that is not stored is not missing.
        config = config.with_values(tie_word_embeddings=True)
    config, vocabulary_warnings = _vocabulary_from_rows(config, tensors, naming)
    config, rope_warnings = without_dynamic_scaling(config, architecture.rope_types)
    check_rope_type(config, architecture.rope_types)
    architecture.check(config)
    return _Reconciled(
        config,
        tensors,
        (*prediction_warnings, *warnings, *vocabulary_warnings, *rope_warnings),
        tuple(_summary(named.left_out, checkpoint)),
        {**named.left_out, **tied},
    )


def _with_prediction_layers(
    architecture: Architecture, config: ModelConfig, tensors: Mapping[str, CheckpointTensor]
) -> ModelConfig:
    """Return the config with the number of stored layers that predict further tokens: under `mtp.`, or after the hidden ones."""
    after = [layer for layer in layers_present(tensors, architecture.naming) if predicts(config, layer)]
    apart = {int(match[1]) for name in tensors if (match := _PREDICTION_LAYER.match(name))}
    return config.with_values(**{STORED: len(after) + len(apart)})


def _unkept_promise(
    promised: int, architecture: Architecture, config: ModelConfig, named: NamedTensors
) -> tuple[str, ...]:
    """Return a warning where an architecture that predicts further tokens gets fewer layers for that than its config says."""
    stored = prediction_layers(config)
    missed = architecture.block_count(config.with_values(**{STORED: promised})) - architecture.block_count(config)
    if missed <= 0 or any(MULTI_TOKEN_PREDICTION.fullmatch(name) for name in named.left_out):
        return ()
    return (
        f"config.json promises {promised} layers that predict further tokens, but the checkpoint stores {stored}: the file has "
        f"{stored} and computes the same, only llama.cpp cannot draft tokens with the others",
    )


def _renamed(
    architecture: Architecture, config: ModelConfig, tensors: Mapping[str, CheckpointTensor]
) -> dict[str, CheckpointTensor]:
    return {architecture.renamed(name, config): tensor for name, tensor in tensors.items()}


def _one_output(
    tensors: dict[str, CheckpointTensor], config: ModelConfig, naming: Naming
) -> tuple[dict[str, CheckpointTensor], tuple[str, ...]]:
    """Leave out an lm_head that tied embeddings replace, as transformers does when it loads such a checkpoint."""
    output, embedding = naming.output_tensor, naming.embedding_tensor
    if not config.flag("tie_word_embeddings", False) or output not in tensors or embedding not in tensors:
        return tensors, ()
    without_output = {name: tensor for name, tensor in tensors.items() if name != output}
    if _equal(tensors[output], tensors[embedding]):
        return without_output, ()
    return without_output, (
        f"{output} differs from {embedding} though tie_word_embeddings is true; "
        "the embedding is used for the output, as transformers does",
    )


def _equal(first: CheckpointTensor, second: CheckpointTensor) -> bool:
    """Tell whether two tensors are equal, compared in pieces: a vocabulary may take gigabytes."""
    if (first.dtype, first.shape) != (second.dtype, second.shape):
        return False
    rows, other_rows = first.rows(), second.rows()
    count = row_count(first.shape)
    step = max(1, (1 << 22) // max(1, first.shape[-1]))
    return all(
        numpy.array_equal(
            rows.read_rows(start, min(start + step, count)), other_rows.read_rows(start, min(start + step, count))
        )
        for start in range(0, count, step)
    )


def _refuse_lost(checkpoint: Checkpoint, architecture: Architecture, config: ModelConfig) -> None:
    """Refuse a tensor that the index promises and no shard holds, unless it would be left out anyway."""
    tied = config.flag("tie_word_embeddings", False)
    lost = [
        name
        for name in checkpoint.lost
        if not (tied and name.endswith(architecture.naming.output_tensor)) and why_dropped(architecture, name) is None
    ]
    if lost:
        raise CheckpointError(
            f"{INDEX} places {lost[0]} in {checkpoint.lost[lost[0]]}, which does not hold it ({len(lost)} in all)"
        )


def _vocabulary_from_rows(
    config: ModelConfig, tensors: dict[str, CheckpointTensor], naming: Naming
) -> tuple[ModelConfig, tuple[str, ...]]:
    name = naming.embedding_tensor
    if name not in tensors:
        raise TensorError(f"{name} is missing; first tensors found: {', '.join(list(tensors)[:3])}")
    embedding = tensors[name]
    refuse_empty(embedding)
    if len(embedding.shape) != 2:
        raise TensorError(f"{name} has shape {list(embedding.shape)}, expected [vocabulary, hidden_size]")
    rows, claimed = embedding.shape[0], config.get("vocab_size")
    if rows == claimed:
        return config, ()
    reconciled = config.with_values(vocab_size=rows)
    if claimed is None:
        return reconciled, ()
    return reconciled, (f"vocab_size is {claimed} in config.json, but the embedding has {rows} rows; the rows count",)


def _generated(architecture: Architecture, config: ModelConfig) -> list[SourceTensor]:
    return [SourceTensor(name, generated(values)) for name, values in architecture.generated_tensors(config).items()]


def _raw_text_config(checkpoint: Checkpoint) -> dict[str, object]:
    return checkpoint.config | (text_part(checkpoint.config) or {})


def _summary(left_out: dict[str, str], checkpoint: Checkpoint | None = None) -> list[str]:
    """Return how many tensors were left out and why; with a checkpoint, also how many bytes they take."""
    sizes: Counter[str] = Counter()
    for name, why in left_out.items():
        sizes[why] += checkpoint.tensors[name].n_bytes if checkpoint else 0
    return [
        f"left out {count} tensors{f' ({format_size(sizes[why])})' if sizes[why] else ''}: {why}"
        for why, count in Counter(left_out.values()).items()
    ]
