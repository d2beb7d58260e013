"""Llama's block, which most families share: a name for every tensor, groups of them, and what most classes fill in."""

from dataclasses import replace
from typing import Any

import numpy
from numpy.typing import NDArray

from toolkit.architectures.parts.base import Rules, biases, block, rule, same_as
from toolkit.architectures.parts.dimensions import head_dim
from toolkit.architectures.parts.rope import llama3_frequency_factors
from toolkit.architectures.parts.transforms import interleave_rope
from toolkit.checkpoint.model_config import Derived, ModelConfig
from toolkit.gguf.format import Metadata, uint32

Q_ROPE, K_ROPE = interleave_rope("num_attention_heads"), interleave_rope("num_key_value_heads")


def untied(config: ModelConfig) -> bool:
    """Tell whether the output has a matrix of its own."""
    return not config.flag("tie_word_embeddings", False)


TOKEN_EMBD = rule("model.embed_tokens", "token_embd", "vocab", "embd")
OUTPUT_NORM = rule("model.norm", "output_norm", "embd")
OUTPUT = replace(rule("lm_head", "output", "vocab", "embd"), required=untied)
AROUND_THE_BLOCKS = (TOKEN_EMBD, OUTPUT_NORM, OUTPUT)

ATTN_NORM = block("input_layernorm", "attn_norm", "embd")
FFN_NORM = block("post_attention_layernorm", "ffn_norm", "embd")
NORMS = (ATTN_NORM, FFN_NORM)
POST_ATTN_NORM = block("post_attention_layernorm", "post_attention_norm", "embd")
POST_FFN_NORM = block("post_feedforward_layernorm", "post_ffw_norm", "embd")
POST_NORMS = (POST_ATTN_NORM, POST_FFN_NORM)
"""norms after attention and MLP"""

Q = block("self_attn.q_proj", "attn_q", "q", "embd")
K = block("self_attn.k_proj", "attn_k", "kv", "embd")
V = block("self_attn.v_proj", "attn_v", "kv", "embd")
O = block("self_attn.o_proj", "attn_output", "embd", "q")  # noqa: E741  # what the field calls it
QKV = (Q, K, V)
PROJECTIONS = (*QKV, O)
Q_NORM = block("self_attn.q_norm", "attn_q_norm", "head")
K_NORM = block("self_attn.k_norm", "attn_k_norm", "head")
HEAD_NORMS = (Q_NORM, K_NORM)
"""norms over a head of Q, of K"""
WIDE_NORMS = (
    block("self_attn.q_norm", "attn_q_norm", "q"),
    block("self_attn.k_norm", "attn_k_norm", "kv"),
)
"""norms over all heads of Q, of K"""


def gated_mlp(
    module: str, names: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj"), ff: str = "ff"
) -> Rules:
    """Return the rules of an MLP; `names` are those of gate, up and down, `ff` is its width."""
    gate, up, down = names
    return (
        block(f"{module}.{gate}", "ffn_gate", ff, "embd"),
        block(f"{module}.{up}", "ffn_up", ff, "embd"),
        block(f"{module}.{down}", "ffn_down", "embd", ff),
    )


GATED_MLP = gated_mlp("mlp")
FFN_GATE, FFN_UP, FFN_DOWN = GATED_MLP
PLAIN_MLP = (FFN_UP, FFN_DOWN)
FUSED_MLP = (block("mlp.gate_up_proj", "ffn_up", "2*ff", "embd"), FFN_DOWN)
"""gate and up in one matrix, as the file has them too"""


def with_rope_order(rules: Rules) -> Rules:
    """Return rules whose Q and K are reordered, for graphs that rotate neighbours where transformers rotates halves."""
    orders = {"q_proj": Q_ROPE, "k_proj": K_ROPE}
    return tuple(
        replace(rule, transform=next((orders[name] for name in orders if name in rule.source), rule.transform))
        for rule in rules
    )


ATTENTION = NORMS + PROJECTIONS
ATTENTION_BIAS = biases(PROJECTIONS, "attention_bias")
QKV_BIAS = biases(QKV)
MLP_BIAS = biases(GATED_MLP, "mlp_bias")

COMPUTED_BUFFERS = {
    r".*\.rotary_emb\.inv_freq": "rope frequencies, which llama.cpp computes itself",
    r".*\.attention\.(masked_)?bias": "the causal mask, which llama.cpp computes itself",
    r".*\.position_ids": "positions, which llama.cpp counts itself",
}


def head_lengths(config: ModelConfig) -> Metadata:
    """Return the lengths of heads, which llama.cpp's converter writes where a class fills in `head_dim`."""
    length = uint32(head_dim(config))
    return {"attention.key_length": length, "attention.value_length": length}


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
    return config.integer("hidden_size") // config.integer("num_attention_heads")


DEFAULTS: dict[str, Any] = {
    "hidden_act": "silu",
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "mlp_bias": False,
}
"""what most classes fill in; a family says where it differs"""
DERIVED: dict[str, Derived] = {"num_key_value_heads": same_as("num_attention_heads")}
