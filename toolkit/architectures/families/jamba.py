"""Jamba: Mamba 1 with norms in most layers, attention without positions in some, experts in every other."""

from toolkit.architectures.parts.base import Architecture, block, in_layers, other_than, rule
from toolkit.architectures.parts.checks import silu
from toolkit.architectures.parts.experts import experts
from toolkit.architectures.parts.hybrids import per_layer
from toolkit.architectures.parts.llama_block import (
    ATTN_NORM,
    DEFAULTS,
    OUTPUT,
    PROJECTIONS,
    TOKEN_EMBD,
    gated_mlp,
)
from toolkit.architectures.parts.state_space import state_space, state_space_metadata, time_step_rank
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata

AROUND = (TOKEN_EMBD, OUTPUT, rule("model.final_layernorm", "output_norm", "embd"))
BLOCK_NORMS = (ATTN_NORM, block("pre_ff_layernorm", "ffn_norm", "embd"))
STATES = (
    *state_space("mamba"),
    block("mamba.dt_layernorm", "ssm_dt_norm", "ssm_rank"),
    block("mamba.b_layernorm", "ssm_b_norm", "ssm_state"),
    block("mamba.c_layernorm", "ssm_c_norm", "ssm_state"),
)
MIXTURE = (
    block("feed_forward.router", "ffn_gate_inp", "experts", "embd"),
    *experts("feed_forward.experts", ff="ff"),
)


def _every(config: ModelConfig, layer: int, kind: str) -> bool:
    offset, period = config.integer(f"{kind}_layer_offset", least=0), config.integer(f"{kind}_layer_period")
    return layer >= offset and (layer - offset) % period == 0


def _attends(config: ModelConfig, layer: int) -> bool:
    return _every(config, layer, "attn")


def _has_experts(config: ModelConfig, layer: int) -> bool:
    return _every(config, layer, "expert")


def _metadata(config: ModelConfig) -> Metadata:
    attending = (_attends(config, layer) for layer in range(config.integer("num_hidden_layers")))
    kv_heads = per_layer(config.integer("num_key_value_heads"), attending)
    return state_space_metadata(config) | {"attention.head_count_kv": kv_heads}


JAMBA = Architecture(
    name="jamba",
    hf_classes=("JambaForCausalLM",),
    compared=frozenset({"JambaForCausalLM"}),
    model_types=("jamba",),
    tensors=AROUND
    + BLOCK_NORMS
    + in_layers(PROJECTIONS, _attends)
    + in_layers(STATES, other_than(_attends))
    + in_layers(gated_mlp("feed_forward"), other_than(_has_experts))
    + in_layers(MIXTURE, _has_experts),
    class_defaults=DEFAULTS
    | {
        "num_key_value_heads": 8,
        "max_position_embeddings": 262144,
        "num_local_experts": 16,
        "num_experts_per_tok": 2,
        "attn_layer_offset": 4,
        "attn_layer_period": 8,
        "expert_layer_offset": 1,
        "expert_layer_period": 2,
        "mamba_d_conv": 4,
        "mamba_d_state": 16,
        "mamba_expand": 2,
    },
    aliases={"ssm_conv": "mamba_d_conv", "ssm_state": "mamba_d_state"},
    derived={
        "ssm_inner": lambda config: config.integer("mamba_expand") * config.integer("hidden_size"),
        "ssm_rank": lambda config: time_step_rank(config, "mamba_dt_rank"),
    },
    metadata=_metadata,
    unwritten=frozenset({"rope"}),
    check=silu,
    vocabularies=("sentencepiece", "llama_hf"),
)

ARCHITECTURES = (JAMBA,)
