"""Gemma 3: Gemma 2 with norms on the heads of Q and K, and rope of its own for windowed layers."""

from dataclasses import replace

from toolkit.architectures.families.gemma import GEMMA
from toolkit.architectures.parts.base import no_metadata, transformed
from toolkit.architectures.parts.checks import all_of, setting
from toolkit.architectures.parts.gemma_layers import GEMMA_BLOCK
from toolkit.architectures.parts.llama_block import HEAD_NORMS
from toolkit.architectures.parts.transforms import plus_one
from toolkit.architectures.parts.windows import window_every, windowed_layers
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, float32


def _metadata(config: ModelConfig) -> Metadata:
    # Its graph runs without a window where the file has none.
    metadata = window_every(config, 6) if any(windowed_layers(config, 6)) else no_metadata(config)
    if config.has("final_logit_softcapping"):
        metadata["final_logit_softcapping"] = float32(config.number("final_logit_softcapping"))
    return metadata


GEMMA3 = replace(
    GEMMA,
    name="gemma3",
    hf_classes=("Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"),
    compared=frozenset({"Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"}),
    model_types=("gemma3_text", "gemma3"),
    tensors=transformed(GEMMA_BLOCK + HEAD_NORMS, plus_one, "norm"),
    class_defaults=GEMMA.class_defaults
    | {
        "intermediate_size": 9216,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "max_position_embeddings": 131072,
        "sliding_window": 4096,
        "rope_theta": 1000000.0,
        "rope_local_base_freq": 10000.0,
    },
    metadata=_metadata,
    unwritten=frozenset(),
    check=all_of(GEMMA.check, setting("attn_logit_softcapping")),
    rope_types=("default", "linear", "local"),
)

GEMMA_EMBEDDING = replace(
    GEMMA3,
    name="gemma-embedding",
    hf_classes=("Gemma3TextModel",),
    compared=frozenset({"Gemma3TextModel"}),
    model_types=(),
    pools=True,
)
"""EmbeddingGemma: the same weights, every token sees every other (or a window to both sides)."""

ARCHITECTURES = (GEMMA3, GEMMA_EMBEDDING)
