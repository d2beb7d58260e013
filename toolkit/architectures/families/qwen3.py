"""Qwen 3: Qwen 2 with norms on the heads of Q and K instead of biases, and heads of their own length."""

from dataclasses import replace

from toolkit.architectures.families.llama import AROUND_THE_BLOCKS, ATTENTION, ATTENTION_BIAS, GATED_MLP
from toolkit.architectures.families.qwen2 import QWEN2
from toolkit.architectures.parts.base import block

HEAD_NORMS = (
    block("self_attn.q_norm", "attn_q_norm", "head"),
    block("self_attn.k_norm", "attn_k_norm", "head"),
)

QWEN3 = replace(
    QWEN2,
    name="qwen3",
    hf_classes=("Qwen3ForCausalLM", "Qwen3Model"),
    model_types=("qwen3",),
    tensors=AROUND_THE_BLOCKS + ATTENTION + ATTENTION_BIAS + HEAD_NORMS + GATED_MLP,
    defaults={**QWEN2.defaults, "head_dim": 128, "attention_bias": False},
)

ARCHITECTURES = (QWEN3,)
