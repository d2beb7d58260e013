"""Falcon H1: attention and Mamba 2 side by side in every layer; its multipliers are folded into the weights."""

from dataclasses import replace

from toolkit.architectures.families.llama import LLAMA
from toolkit.architectures.parts.base import TensorRule, Transform, block, rule
from toolkit.architectures.parts.checks import silu
from toolkit.architectures.parts.llama_block import (
    ATTN_NORM,
    DEFAULTS,
    DERIVED,
    OUTPUT,
    PROJECTIONS,
    TOKEN_EMBD,
    computed_head_dim,
    gated_mlp,
)
from toolkit.architectures.parts.row_sources import Joined
from toolkit.architectures.parts.state_space import (
    HYBRID_ALIASES,
    HYBRID_DEFAULTS,
    gated_norm,
    heads_metadata,
    heads_of_states,
)
from toolkit.architectures.parts.transforms import row_range, scaled
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, uint32
from toolkit.gguf.rows import RowSource


def times(*keys: str) -> Transform:
    """Return the transform that multiplies by numbers of the config, one after the other; KEY[n] is an item of a list."""

    def transform(source: RowSource, config: ModelConfig) -> RowSource:
        for key in keys:
            name, _, index = key.rstrip("]").partition("[")
            factor = config.number_list(name, length=2)[int(index)] if index else config.number(name)
            source = scaled(source, factor)
        return source

    return transform


def scaled_inputs(source: RowSource, config: ModelConfig) -> RowSource:
    """Return the projection into Mamba, whose parts (gate, x, B, C, time step) have a multiplier each."""
    inner, state = config.integer("ssm_inner"), config.integer("ssm_groups") * config.integer("ssm_state")
    lengths = (inner, inner, state, state, config.integer("ssm_rank"))
    whole = scaled(source, config.number("ssm_in_multiplier"))
    parts, first = [], 0
    for length, factor in zip(lengths, config.number_list("ssm_multipliers", length=5), strict=True):
        parts.append(scaled(row_range(whole, first, first + length), factor))
        first += length
    return Joined(tuple(parts), source.shape)


_TIMES = {
    "embed_tokens": times("embedding_multiplier"),
    "lm_head": times("lm_head_multiplier"),
    "q_proj": times("attention_in_multiplier"),
    "k_proj": times("key_multiplier", "attention_in_multiplier"),
    "v_proj": times("attention_in_multiplier"),
    "o_proj": times("attention_out_multiplier"),
    "gate_proj": times("mlp_multipliers[0]"),
    "down_proj": times("mlp_multipliers[1]"),
    "mamba.in_proj": scaled_inputs,
    "mamba.out_proj": times("ssm_out_multiplier"),
}
# llama.cpp reads this norm under a name without suffix
FFN_NORM = replace(block("pre_ff_layernorm", "", "embd"), target="blk.{layer}.ffn_norm")
GATED_NORM = tuple(replace(tensor, required="mamba_rms_norm") for tensor in gated_norm("mamba"))
TENSORS = (
    TOKEN_EMBD,
    OUTPUT,
    rule("model.final_layernorm", "output_norm", "embd"),
    ATTN_NORM,
    *PROJECTIONS,
    *heads_of_states("mamba"),
    *GATED_NORM,
    FFN_NORM,
    *gated_mlp("feed_forward"),
)


def _multiplied(tensor: TensorRule) -> TensorRule:
    found = next(
        (transform for name, transform in _TIMES.items() if f"{name}.weight" in tensor.source), tensor.transform
    )
    return replace(tensor, transform=found)


def _metadata(config: ModelConfig) -> Metadata:
    return heads_metadata(config) | {"vocab_size": uint32(config.integer("vocab_size"))}


FALCON_H1 = replace(
    LLAMA,
    name="falcon-h1",
    hf_classes=("FalconH1ForCausalLM",),
    compared=frozenset({"FalconH1ForCausalLM"}),
    model_types=("falcon_h1",),
    tensors=tuple(_multiplied(tensor) for tensor in TENSORS),
    class_defaults=DEFAULTS
    | HYBRID_DEFAULTS
    | {
        "num_key_value_heads": 8,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5,
        "rope_theta": 100000.0,
        "mamba_d_ssm": 1024,
        "mamba_rms_norm": False,
        "embedding_multiplier": 1.0,
        "lm_head_multiplier": 1.0,
        "attention_in_multiplier": 1.0,
        "attention_out_multiplier": 1.0,
        "key_multiplier": 1.0,
        "ssm_in_multiplier": 1.0,
        "ssm_out_multiplier": 1.0,
        "mlp_multipliers": [1.0, 1.0],
        "ssm_multipliers": [1.0] * 5,
    },
    aliases=HYBRID_ALIASES | {"ssm_inner": "mamba_d_ssm"},
    derived=DERIVED | {"head_dim": computed_head_dim},
    metadata=_metadata,
    check=silu,
    rope_types=("default",),
    vocabularies=("bpe",),
)

ARCHITECTURES = (FALCON_H1,)
