"""Gemma 2: norms before and after attention and MLP, soft caps, a window on every second layer."""

from dataclasses import replace

from toolkit.architectures.families.gemma import GEMMA
from toolkit.architectures.parts.base import transformed
from toolkit.architectures.parts.gemma_layers import GEMMA_BLOCK
from toolkit.architectures.parts.transforms import plus_one
from toolkit.architectures.parts.windows import window_every
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, float32


def _metadata(config: ModelConfig) -> Metadata:
    return window_every(config, 2) | {
        "attn_logit_softcapping": float32(config.number("attn_logit_softcapping")),
        "final_logit_softcapping": float32(config.number("final_logit_softcapping")),
    }


GEMMA2 = replace(
    GEMMA,
    name="gemma2",
    hf_classes=("Gemma2ForCausalLM",),
    compared=frozenset({"Gemma2ForCausalLM"}),
    model_types=("gemma2",),
    tensors=transformed(GEMMA_BLOCK, plus_one, "norm"),
    class_defaults=GEMMA.class_defaults
    | {
        "intermediate_size": 9216,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "sliding_window": 4096,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
    },
    metadata=_metadata,
)

ARCHITECTURES = (GEMMA2,)
