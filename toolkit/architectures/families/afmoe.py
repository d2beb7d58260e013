"""Arcee's Trinity (AFMoE): gated attention between two norms, windows with rope on three of four layers, many small experts."""

from dataclasses import replace

from toolkit.architectures.families.llama import LLAMA
from toolkit.architectures.parts.base import block
from toolkit.architectures.parts.checks import all_of, setting, silu
from toolkit.architectures.parts.experts import SHARED_EXPERTS, correction_bias, dense_first, experts
from toolkit.architectures.parts.llama_block import (
    AROUND_THE_BLOCKS,
    ATTN_NORM,
    DEFAULTS,
    HEAD_NORMS,
    POST_ATTN_NORM,
    PROJECTIONS,
    llama_metadata,
)
from toolkit.architectures.parts.windows import window_every
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, boolean, float32, uint32

ATTENTION = (
    ATTN_NORM,
    *PROJECTIONS,
    *HEAD_NORMS,
    block("self_attn.gate_proj", "attn_gate", "q", "embd"),
    POST_ATTN_NORM,
)
MLP_NORMS = (
    block("pre_mlp_layernorm", "ffn_norm", "embd"),
    block("post_mlp_layernorm", "post_ffw_norm", "embd"),
)
MIXTURE = (
    block("mlp.router.gate", "ffn_gate_inp", "experts", "embd"),
    *correction_bias("mlp.expert_bias"),
    *experts(),
    *SHARED_EXPERTS,
)


def _metadata(config: ModelConfig) -> Metadata:
    return (
        llama_metadata(config)
        | window_every(config, 4)
        | {
            "expert_feed_forward_length": uint32(config.integer("moe_intermediate_size")),
            "expert_shared_count": uint32(config.integer("n_shared_experts")),
            "expert_weights_norm": boolean(config.flag("route_norm")),
            "expert_weights_scale": float32(config.number("route_scale")),
            "leading_dense_block_count": uint32(config.integer("first_k_dense_replace", least=0)),
        }
    )


AFMOE = replace(
    LLAMA,
    name="afmoe",
    hf_classes=("AfmoeForCausalLM",),
    compared=frozenset({"AfmoeForCausalLM"}),
    model_types=("afmoe",),
    tensors=AROUND_THE_BLOCKS + ATTENTION + MLP_NORMS + dense_first(MIXTURE),
    class_defaults=DEFAULTS
    | {
        "head_dim": 128,
        "max_position_embeddings": 16384,
        "rms_norm_eps": 1e-5,
        "sliding_window": 1024,
        "first_k_dense_replace": 1,
        "route_norm": True,
        "route_scale": 1.0,
        "scoring_func": "sigmoid",
    },
    metadata=_metadata,
    check=all_of(silu, setting("mup_enabled", True)),
    rope_types=("default", "yarn"),
)

ARCHITECTURES = (AFMOE,)
