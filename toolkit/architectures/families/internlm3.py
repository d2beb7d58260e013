"""InternLM 3: Llama with a bias on Q, K and V if the config says so, and InternLM's way with its vocabulary."""

from dataclasses import replace

from toolkit.architectures.families.llama import LLAMA
from toolkit.architectures.parts.base import biases, no_generated_tensors
from toolkit.architectures.parts.llama_block import (
    AROUND_THE_BLOCKS,
    ATTENTION,
    DEFAULTS,
    GATED_MLP,
    QKV,
    O,
    llama_metadata,
    with_rope_order,
)

BIASES = biases(QKV, "qkv_bias") + biases((O,), "bias") + biases(GATED_MLP, "bias")

INTERNLM3 = replace(
    LLAMA,
    hf_classes=("InternLM3ForCausalLM",),
    compared=frozenset({"InternLM3ForCausalLM"}),
    model_types=("internlm3",),
    tensors=AROUND_THE_BLOCKS + with_rope_order(ATTENTION + BIASES) + GATED_MLP,
    metadata=llama_metadata,
    class_defaults=DEFAULTS | {"max_position_embeddings": 32768, "qkv_bias": False, "bias": False},
    generated_tensors=no_generated_tensors,
    rope_types=("default", "linear", "yarn"),
    vocabularies=("sentencepiece",),
)

ARCHITECTURES = (INTERNLM3,)
