"""Llama 1, 2 and 3, and what others share with it."""

from dataclasses import replace

import numpy
from numpy.typing import NDArray

from toolkit.architectures.parts.base import Architecture, Rules, biases, block, rule, without
from toolkit.architectures.parts.checks import silu
from toolkit.architectures.parts.dimensions import head_dim
from toolkit.architectures.parts.rope import llama3_frequency_factors
from toolkit.architectures.parts.transforms import interleave_rope
from toolkit.checkpoint.model_config import Default, ModelConfig
from toolkit.gguf.format import Metadata, uint32

Q_ROPE, K_ROPE = interleave_rope("num_attention_heads"), interleave_rope("num_key_value_heads")


def untied(config: ModelConfig) -> bool:
    """Tell whether the output has a matrix of its own."""
    return not config.get("tie_word_embeddings", False)


EMBEDDING = (rule("model.embed_tokens", "token_embd", "vocab", "embd"),)
OUTPUT = (replace(rule("lm_head", "output", "vocab", "embd"), required=untied),)
OUTPUT_NORM = (rule("model.norm", "output_norm", "embd"),)
AROUND_THE_BLOCKS = EMBEDDING + OUTPUT_NORM + OUTPUT

NORMS = (
    block("input_layernorm", "attn_norm", "embd"),
    block("post_attention_layernorm", "ffn_norm", "embd"),
)
PROJECTIONS = (
    block("self_attn.q_proj", "attn_q", "q", "embd"),
    block("self_attn.k_proj", "attn_k", "kv", "embd"),
    block("self_attn.v_proj", "attn_v", "kv", "embd"),
    block("self_attn.o_proj", "attn_output", "embd", "q"),
)
GATED_MLP = (
    block("mlp.gate_proj", "ffn_gate", "ff", "embd"),
    block("mlp.up_proj", "ffn_up", "ff", "embd"),
    block("mlp.down_proj", "ffn_down", "embd", "ff"),
)
PLAIN_MLP = without(GATED_MLP, "gate_proj")


def with_rope_order(rules: Rules) -> Rules:
    """Return rules whose Q and K are reordered, for graphs that rotate neighbours where transformers rotates halves."""
    orders = {"q_proj": Q_ROPE, "k_proj": K_ROPE}
    return tuple(
        replace(one, transform=next((orders[name] for name in orders if name in one.source), one.transform))
        for one in rules
    )


ATTENTION = NORMS + PROJECTIONS
ATTENTION_BIAS = biases(PROJECTIONS, "attention_bias")
QKV_BIAS = biases(PROJECTIONS[:3])
MLP_BIAS = biases(GATED_MLP, "mlp_bias")

COMPUTED_BUFFERS = {
    r".*\.rotary_emb\.inv_freq": "rope frequencies, which llama.cpp computes itself",
    r".*\.attention\.(masked_)?bias": "the causal mask, which llama.cpp computes itself",
    r".*\.position_ids": "positions, which llama.cpp counts itself",
}


def llama_metadata(config: ModelConfig) -> Metadata:
    """Return the keys that Llama's family adds to the common ones."""
    return {
        "vocab_size": uint32(config.integer("vocab_size")),
        "rope.dimension_count": uint32(head_dim(config)),
    }


def rope_factors(config: ModelConfig) -> dict[str, NDArray[numpy.float32]]:
    """Return the rope_freqs tensor of Llama 3.1 and later."""
    factors = llama3_frequency_factors(config, head_dim(config))
    return {} if factors is None else {"rope_freqs.weight": factors}


def computed_head_dim(config: ModelConfig) -> int:
    """Return the length of a head that most classes fill in."""
    return int(config.integer("hidden_size") // config.integer("num_attention_heads"))


DEFAULTS: dict[str, Default] = {
    "num_key_value_heads": lambda config: config["num_attention_heads"],
    "hidden_act": "silu",
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "mlp_bias": False,
}
"""what most classes fill in; a family says where it differs"""

LLAMA = Architecture(
    name="llama",
    hf_classes=("LlamaForCausalLM", "LLaMAForCausalLM", "LlamaModel", "IQuestCoderForCausalLM"),
    model_types=("llama",),
    tensors=AROUND_THE_BLOCKS + with_rope_order(ATTENTION + ATTENTION_BIAS) + GATED_MLP + MLP_BIAS,
    defaults=DEFAULTS | {"head_dim": computed_head_dim},
    metadata=llama_metadata,
    generated_tensors=rope_factors,
    check=silu,
    rope_types=("default", "linear", "yarn", "llama3"),
    vocabularies=("tekken", "sentencepiece", "llama_hf", "bpe"),
    dropped=COMPUTED_BUFFERS,
)

ARCHITECTURES = (LLAMA,)
