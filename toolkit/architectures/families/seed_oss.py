"""Seed OSS: Qwen 2 with heads of their own length."""

from dataclasses import replace

from toolkit.architectures.families.qwen2 import QWEN2
from toolkit.architectures.parts.base import biases, retargeted
from toolkit.architectures.parts.checks import silu
from toolkit.architectures.parts.llama_block import (
    AROUND_THE_BLOCKS,
    ATTENTION,
    DEFAULTS,
    GATED_MLP,
    MLP_BIAS,
    QKV,
    O,
)

SEED_OSS = replace(
    QWEN2,
    name="seed_oss",
    hf_classes=("SeedOssForCausalLM",),
    compared=frozenset({"SeedOssForCausalLM"}),
    model_types=("seed_oss",),
    tensors=AROUND_THE_BLOCKS
    + retargeted(ATTENTION, {"ffn_norm": "post_attention_norm"})
    + biases(QKV, "attention_bias")
    + biases((O,), "attention_out_bias")
    + GATED_MLP
    + MLP_BIAS,
    class_defaults=DEFAULTS
    | {"num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 524288, "attention_bias": True},
    check=silu,
)

ARCHITECTURES = (SEED_OSS,)
