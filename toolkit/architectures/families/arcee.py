"""Arcee: Llama with squared ReLU and no gate."""

from dataclasses import replace

from toolkit.architectures.families.llama import LLAMA
from toolkit.architectures.parts.base import biases
from toolkit.architectures.parts.checks import relu_squared
from toolkit.architectures.parts.llama_block import (
    AROUND_THE_BLOCKS,
    ATTENTION,
    ATTENTION_BIAS,
    PLAIN_MLP,
    with_rope_order,
)

ARCEE = replace(
    LLAMA,
    name="arcee",
    hf_classes=("ArceeForCausalLM",),
    compared=frozenset({"ArceeForCausalLM"}),
    model_types=("arcee",),
    tensors=AROUND_THE_BLOCKS + with_rope_order(ATTENTION + ATTENTION_BIAS) + PLAIN_MLP + biases(PLAIN_MLP, "mlp_bias"),
    class_defaults=LLAMA.class_defaults
    | {"hidden_act": "relu2", "max_position_embeddings": 4096, "rms_norm_eps": 1e-5},
    check=relu_squared,
)

ARCHITECTURES = (ARCEE,)
