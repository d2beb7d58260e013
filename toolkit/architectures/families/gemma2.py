"""Gemma 2: norms before and after attention and MLP, soft caps, a window on every second layer."""

from dataclasses import replace

from toolkit.architectures.families.gemma import GEMMA
from toolkit.architectures.families.llama import ATTENTION, EMBEDDING, GATED_MLP, OUTPUT_NORM
from toolkit.architectures.parts.base import block, transformed, without
from toolkit.architectures.parts.transforms import plus_one
from toolkit.architectures.parts.windows import window_every
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, float32

SANDWICH_NORMS = (
    block("post_attention_layernorm", "post_attention_norm", "embd"),
    block("pre_feedforward_layernorm", "ffn_norm", "embd"),
    block("post_feedforward_layernorm", "post_ffw_norm", "embd"),
)
TENSORS = EMBEDDING + OUTPUT_NORM + without(ATTENTION, "post_attention") + SANDWICH_NORMS + GATED_MLP


def _metadata(config: ModelConfig) -> Metadata:
    return window_every(config, 2) | {
        "attn_logit_softcapping": float32(config.number("attn_logit_softcapping")),
        "final_logit_softcapping": float32(config.number("final_logit_softcapping")),
    }


GEMMA2 = replace(
    GEMMA,
    name="gemma2",
    hf_classes=("Gemma2ForCausalLM",),
    model_types=("gemma2",),
    tensors=transformed(TENSORS, plus_one, "norm"),
    defaults=GEMMA.defaults
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
