"""Granite: Llama with multipliers on embedding, attention, residuals and logits."""

from dataclasses import replace

from toolkit.architectures.families.llama import LLAMA
from toolkit.architectures.parts.llama_block import DEFAULTS, llama_metadata
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, float32

_MULTIPLIERS = {
    "attention_multiplier": "attention.scale",
    "embedding_multiplier": "embedding_scale",
    "residual_multiplier": "residual_scale",
    "logits_scaling": "logit_scale",
}


def multipliers(config: ModelConfig) -> Metadata:
    """Return the multipliers."""
    return {name: float32(config.number(key)) for key, name in _MULTIPLIERS.items()}


GRANITE = replace(
    LLAMA,
    name="granite",
    hf_classes=("GraniteForCausalLM",),
    compared=frozenset({"GraniteForCausalLM"}),
    model_types=("granite",),
    class_defaults=DEFAULTS | dict.fromkeys(_MULTIPLIERS, 1.0),
    metadata=lambda config: llama_metadata(config) | multipliers(config),
    unwritten=frozenset({"attention.key_length", "attention.value_length"}),
    rope_types=("default", "linear", "yarn"),
)

ARCHITECTURES = (GRANITE,)
