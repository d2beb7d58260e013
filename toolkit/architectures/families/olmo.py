"""OLMo 1: Llama without any weights in its norms."""

from dataclasses import replace

from toolkit.architectures.families.llama import LLAMA
from toolkit.architectures.parts.llama_block import (
    DEFAULTS,
    GATED_MLP,
    OUTPUT,
    PROJECTIONS,
    TOKEN_EMBD,
    with_rope_order,
)
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, float32


def _metadata(config: ModelConfig) -> Metadata:
    return {} if not config.has("clip_qkv") else {"attention.clamp_kqv": float32(config.number("clip_qkv"))}


OLMO = replace(
    LLAMA,
    name="olmo",
    hf_classes=("OlmoForCausalLM",),
    compared=frozenset({"OlmoForCausalLM"}),
    model_types=("olmo",),
    tensors=(TOKEN_EMBD, OUTPUT, *with_rope_order(PROJECTIONS), *GATED_MLP),
    class_defaults=DEFAULTS | {"layer_norm_eps": 1e-5},
    metadata=_metadata,
    norm="layer_norm_eps",
    rope_types=("default", "linear", "yarn"),
)

ARCHITECTURES = (OLMO,)
