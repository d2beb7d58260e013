"""Llama 1, 2 and 3, and what others share with it."""

from dataclasses import replace

import numpy
from numpy.typing import NDArray

from toolkit.architectures.base import Architecture, TensorRule, head_dim
from toolkit.architectures.transforms import interleave_rope
from toolkit.errors import ConfigError
from toolkit.gguf_format import Metadata, uint32
from toolkit.model_config import ModelConfig
from toolkit.rope import llama3_frequency_factors

Q_ROPE, K_ROPE = interleave_rope("num_attention_heads"), interleave_rope("num_key_value_heads")


def _untied(config: ModelConfig) -> bool:
    return not config.get("tie_word_embeddings", False)


AROUND_THE_BLOCKS = (
    TensorRule("model.embed_tokens.weight", "token_embd.weight", ("vocab", "embd")),
    TensorRule("model.norm.weight", "output_norm.weight", ("embd",)),
    TensorRule("lm_head.weight", "output.weight", ("vocab", "embd"), required=_untied),
)

ATTENTION = (
    TensorRule("model.layers.{layer}.input_layernorm.weight", "blk.{layer}.attn_norm.weight", ("embd",)),
    TensorRule("model.layers.{layer}.self_attn.q_proj.weight", "blk.{layer}.attn_q.weight", ("q", "embd"), Q_ROPE),
    TensorRule("model.layers.{layer}.self_attn.k_proj.weight", "blk.{layer}.attn_k.weight", ("kv", "embd"), K_ROPE),
    TensorRule("model.layers.{layer}.self_attn.v_proj.weight", "blk.{layer}.attn_v.weight", ("kv", "embd")),
    TensorRule("model.layers.{layer}.self_attn.o_proj.weight", "blk.{layer}.attn_output.weight", ("embd", "q")),
    TensorRule("model.layers.{layer}.post_attention_layernorm.weight", "blk.{layer}.ffn_norm.weight", ("embd",)),
)

ATTENTION_BIAS = (
    TensorRule(
        "model.layers.{layer}.self_attn.q_proj.bias", "blk.{layer}.attn_q.bias", ("q",), Q_ROPE, "attention_bias"
    ),
    TensorRule(
        "model.layers.{layer}.self_attn.k_proj.bias", "blk.{layer}.attn_k.bias", ("kv",), K_ROPE, "attention_bias"
    ),
    TensorRule(
        "model.layers.{layer}.self_attn.v_proj.bias", "blk.{layer}.attn_v.bias", ("kv",), None, "attention_bias"
    ),
    TensorRule(
        "model.layers.{layer}.self_attn.o_proj.bias", "blk.{layer}.attn_output.bias", ("embd",), None, "attention_bias"
    ),
)

GATED_MLP = (
    TensorRule("model.layers.{layer}.mlp.gate_proj.weight", "blk.{layer}.ffn_gate.weight", ("ff", "embd")),
    TensorRule("model.layers.{layer}.mlp.up_proj.weight", "blk.{layer}.ffn_up.weight", ("ff", "embd")),
    TensorRule("model.layers.{layer}.mlp.down_proj.weight", "blk.{layer}.ffn_down.weight", ("embd", "ff")),
)

MLP_BIAS = (
    TensorRule("model.layers.{layer}.mlp.gate_proj.bias", "blk.{layer}.ffn_gate.bias", ("ff",), None, "mlp_bias"),
    TensorRule("model.layers.{layer}.mlp.up_proj.bias", "blk.{layer}.ffn_up.bias", ("ff",), None, "mlp_bias"),
    TensorRule("model.layers.{layer}.mlp.down_proj.bias", "blk.{layer}.ffn_down.bias", ("embd",), None, "mlp_bias"),
)

COMPUTED_BUFFERS = {
    r".*\.rotary_emb\.inv_freq": "rope frequencies, which llama.cpp computes itself",
    r".*\.attention\.(masked_)?bias": "the causal mask, which llama.cpp computes itself",
    r".*\.position_ids": "positions, which llama.cpp counts itself",
}


def without_rope_order(rules: tuple[TensorRule, ...]) -> tuple[TensorRule, ...]:
    """Return rules whose Q and K keep the checkpoint's order, for graphs that rotate halves as transformers does."""
    return tuple(replace(rule, transform=None) if rule.transform in (Q_ROPE, K_ROPE) else rule for rule in rules)


def llama_metadata(config: ModelConfig, name: str = "llama") -> Metadata:
    """Return the keys that Llama's family adds to the common ones."""
    return {
        f"{name}.vocab_size": uint32(config.integer("vocab_size")),
        f"{name}.rope.dimension_count": uint32(head_dim(config)),
    }


def rope_factors(config: ModelConfig) -> dict[str, NDArray[numpy.float32]]:
    """Return the rope_freqs tensor of Llama 3.1 and later."""
    factors = llama3_frequency_factors(config, head_dim(config))
    return {} if factors is None else {"rope_freqs.weight": factors}


def check_activation(config: ModelConfig) -> None:
    """Refuse another activation than SiLU, which llama.cpp's graph has built in.

    Raises ConfigError.
    """
    if config["hidden_act"] not in ("silu", "swish"):
        raise ConfigError(
            f"config.json: hidden_act {config['hidden_act']!r}; llama.cpp computes silu for this architecture"
        )


def _computed_head_dim(config: ModelConfig) -> int:
    return int(config.integer("hidden_size") // config.integer("num_attention_heads"))


LLAMA = Architecture(
    name="llama",
    hf_classes=("LlamaForCausalLM", "LLaMAForCausalLM"),
    model_types=("llama",),
    tensors=AROUND_THE_BLOCKS + ATTENTION + ATTENTION_BIAS + GATED_MLP + MLP_BIAS,
    defaults={
        "num_key_value_heads": lambda config: config["num_attention_heads"],
        "head_dim": _computed_head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "attention_bias": False,
        "mlp_bias": False,
    },
    metadata=llama_metadata,
    generated_tensors=rope_factors,
    check=check_activation,
    rope_types=("default", "linear", "yarn", "llama3"),
    vocabularies=("sentencepiece", "llama_hf", "bpe"),
    dropped=COMPUTED_BUFFERS,
)

ARCHITECTURES = (LLAMA,)
