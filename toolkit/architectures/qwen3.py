"""Qwen 3: Qwen 2 with norms on the heads of Q and K instead of biases, and heads of their own length."""

from dataclasses import replace

from toolkit.architectures.base import TensorRule
from toolkit.architectures.llama import AROUND_THE_BLOCKS, ATTENTION, ATTENTION_BIAS, GATED_MLP, without_rope_order
from toolkit.architectures.qwen2 import QWEN2

HEAD_NORMS = (
    TensorRule("model.layers.{layer}.self_attn.q_norm.weight", "blk.{layer}.attn_q_norm.weight", ("head",)),
    TensorRule("model.layers.{layer}.self_attn.k_norm.weight", "blk.{layer}.attn_k_norm.weight", ("head",)),
)

QWEN3 = replace(
    QWEN2,
    name="qwen3",
    hf_classes=("Qwen3ForCausalLM",),
    model_types=("qwen3",),
    tensors=AROUND_THE_BLOCKS + without_rope_order(ATTENTION + ATTENTION_BIAS) + HEAD_NORMS + GATED_MLP,
    defaults={**QWEN2.defaults, "head_dim": 128, "attention_bias": False},
)

ARCHITECTURES = (QWEN3,)
