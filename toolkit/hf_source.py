"""From a Hugging Face checkpoint to a ModelSource: config, tensors and vocabulary, reconciled before the first byte."""

from collections import Counter
from pathlib import Path

import numpy

from toolkit.architectures import find_architecture
from toolkit.architectures.base import Architecture, dimensions
from toolkit.checkpoint import INDEX, Checkpoint, open_checkpoint
from toolkit.errors import CheckpointError, TensorError
from toolkit.gguf_format import QUANTIZATION_VERSION, Metadata, float32, uint32
from toolkit.model_card import count_parameters, general_metadata
from toolkit.model_config import ModelConfig, normalise
from toolkit.model_source import ModelSource, SourceTensor
from toolkit.quant_profile import ModelTraits
from toolkit.rope import check_rope_type, rope_metadata
from toolkit.rows import generated
from toolkit.safetensors_reader import StoredTensor
from toolkit.tensor_matching import match_tensors, refuse_empty, why_dropped
from toolkit.tensor_names import canonical_names
from toolkit.tokenizer import TokenizerRequest, read_tokenizer
from toolkit.units import format_size

EMBEDDING, OUTPUT = "model.embed_tokens.weight", "lm_head.weight"
_QUANTIZED_NAMES = (
    "qweight",
    "qzeros",
    "weight_packed",
    "weight_scale",
    "weight_scale_inv",
    "absmax",
    "SCB",
    "_scale",
    "_data",
)


def source_from_checkpoint(directory: Path, pre: str | None = None) -> ModelSource:
    """Return the model in a checkpoint directory; `pre` overrides the name of the BPE pre-tokenizer.

    Raises CheckpointError, ConfigError, TensorError or TokenizerError, each before any weight is read.
    """
    checkpoint = open_checkpoint(directory)
    config = normalise(checkpoint.config)
    architecture, notes = find_architecture(config)
    config = config.with_defaults(architecture.defaults)
    _refuse_quantized(config, checkpoint)
    named = canonical_names(checkpoint.tensors)
    _refuse_lost(checkpoint, architecture, config)
    stored, warnings = _one_output(named.tensors, config)
    config, vocabulary_warnings = _vocabulary_from_rows(config, stored)
    check_rope_type(config, architecture.rope_types)
    architecture.check(config)
    matching = match_tensors(architecture, config, stored, dimensions(config, config.integer("vocab_size")))
    tensors = (*_generated(architecture, config), *matching.tensors)
    tokenizer = read_tokenizer(
        TokenizerRequest(
            directory, _raw_text_config(checkpoint), config.integer("vocab_size"), architecture.vocabularies, pre
        )
    )
    count = count_parameters([(tensor.name, tensor.shape) for tensor in tensors])
    general, stem = general_metadata(directory.resolve(), architecture.name, count)
    return ModelSource(
        name=stem,
        metadata=general | model_metadata(architecture, config) | tokenizer.metadata,
        tensors=tensors,
        traits=model_traits(architecture, config),
        keeps_types=False,
        warnings=(*notes, *warnings, *vocabulary_warnings, *tokenizer.warnings, *_summary(named.left_out, checkpoint)),
        notes=(*checkpoint.notes, *_summary(matching.left_out)),
    )


def model_metadata(architecture: Architecture, config: ModelConfig) -> Metadata:
    """Return the `ARCHITECTURE.*` keys (`TextModel.set_gguf_parameters` of llama.cpp's converter)."""
    name = architecture.name
    metadata: Metadata = {
        f"{name}.block_count": uint32(config.integer("num_hidden_layers")),
        f"{name}.context_length": uint32(config.integer("max_position_embeddings")),
        f"{name}.embedding_length": uint32(config.integer("hidden_size")),
        f"{name}.feed_forward_length": uint32(config.integer("intermediate_size")),
        f"{name}.attention.head_count": uint32(config.integer("num_attention_heads")),
        f"{name}.attention.head_count_kv": uint32(config.integer("num_key_value_heads")),
        f"{name}.attention.layer_norm_rms_epsilon": float32(config.number("rms_norm_eps")),
    }
    if config.get("head_dim") is not None:
        metadata[f"{name}.attention.key_length"] = uint32(config.integer("head_dim"))
        metadata[f"{name}.attention.value_length"] = uint32(config.integer("head_dim"))
    metadata |= rope_metadata(config, name) | architecture.metadata(config)
    return metadata | {"general.quantization_version": uint32(QUANTIZATION_VERSION)}


def model_traits(architecture: Architecture, config: ModelConfig) -> ModelTraits:
    """Return what mixtures of quantization types depend on."""
    return ModelTraits(
        architecture=architecture.name,
        n_layer=config.integer("num_hidden_layers"),
        n_head=config.integer("num_attention_heads"),
        n_head_kv=config.integer("num_key_value_heads"),
        n_expert=int(config.get("num_local_experts", 0)),
    )


def _refuse_quantized(config: ModelConfig, checkpoint: Checkpoint) -> None:
    quantization = config.get("quantization_config")
    if isinstance(quantization, dict):
        method = quantization.get("quant_method", "unnamed")
        bits = quantization.get("bits")
        raise CheckpointError(
            f"the checkpoint is already quantized ({method}{f', {bits} bits' if bits else ''}), which cannot be read yet; "
            "convert the original in bf16 or f16"
        )
    packed = [name for name in checkpoint.tensors if name.rpartition(".")[2] in _QUANTIZED_NAMES]
    if packed:
        raise CheckpointError(
            f"{packed[0]} belongs to a quantized checkpoint, but config.json has no quantization_config that describes it; "
            "convert the original in bf16 or f16"
        )


def _one_output(
    tensors: dict[str, StoredTensor], config: ModelConfig
) -> tuple[dict[str, StoredTensor], tuple[str, ...]]:
    """Leave out an lm_head that tied embeddings replace, as transformers does when it loads such a checkpoint."""
    if not config.get("tie_word_embeddings", False) or OUTPUT not in tensors or EMBEDDING not in tensors:
        return tensors, ()
    kept = {name: tensor for name, tensor in tensors.items() if name != OUTPUT}
    if _equal(tensors[OUTPUT], tensors[EMBEDDING]):
        return kept, ()
    return kept, (
        "lm_head.weight differs from model.embed_tokens.weight though tie_word_embeddings is true; "
        "the embedding is used for the output, as transformers does",
    )


def _equal(one: StoredTensor, other: StoredTensor) -> bool:
    """Compare in pieces: a vocabulary may take gigabytes."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    step = 1 << 24
    return all(
        numpy.array_equal(one.data[start : start + step], other.data[start : start + step])
        for start in range(0, len(one.data), step)
    )


def _refuse_lost(checkpoint: Checkpoint, architecture: Architecture, config: ModelConfig) -> None:
    """Refuse a tensor that the index promises and no shard holds, unless nothing would be made of it."""
    tied = config.get("tie_word_embeddings", False)
    lost = [
        name
        for name in checkpoint.lost
        if not (tied and name.endswith(OUTPUT)) and why_dropped(architecture, name) is None
    ]
    if lost:
        raise CheckpointError(
            f"{INDEX} places {lost[0]} in {checkpoint.lost[lost[0]]}, which does not hold it ({len(lost)} in all)"
        )


def _vocabulary_from_rows(config: ModelConfig, tensors: dict[str, StoredTensor]) -> tuple[ModelConfig, tuple[str, ...]]:
    if EMBEDDING not in tensors:
        raise TensorError(f"{EMBEDDING} is missing; first tensors found: {', '.join(list(tensors)[:3])}")
    refuse_empty(tensors[EMBEDDING])
    if len(tensors[EMBEDDING].shape) != 2:
        raise TensorError(f"{EMBEDDING} has shape {list(tensors[EMBEDDING].shape)}, expected [vocabulary, hidden_size]")
    rows, claimed = tensors[EMBEDDING].shape[0], config.get("vocab_size")
    if rows == claimed:
        return config, ()
    reconciled = ModelConfig({**config.values, "vocab_size": rows}, config.defaults)
    if claimed is None:
        return reconciled, ()
    return reconciled, (f"vocab_size is {claimed} in config.json, but the embedding has {rows} rows; the rows count",)


def _generated(architecture: Architecture, config: ModelConfig) -> list[SourceTensor]:
    return [SourceTensor(name, generated(values)) for name, values in architecture.generated_tensors(config).items()]


def _raw_text_config(checkpoint: Checkpoint) -> dict[str, object]:
    return checkpoint.config | (checkpoint.config.get("text_config") or {})


def _summary(left_out: dict[str, str], checkpoint: Checkpoint | None = None) -> list[str]:
    """Say how many tensors were left out and why; of those that are weights, also how many bytes."""
    sizes: Counter[str] = Counter()
    for name, why in left_out.items():
        sizes[why] += checkpoint.tensors[name].data.nbytes if checkpoint else 0
    return [
        f"left out {count} tensors{f' ({format_size(sizes[why])})' if sizes[why] else ''}: {why}"
        for why, count in Counter(left_out.values()).items()
    ]
