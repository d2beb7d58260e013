"""Ling and Ring 2.0 (Bailing MoE v2): QKV stays fused, norms on the heads, half of a head rotated, sigmoid routing."""

from dataclasses import replace

from toolkit.architectures.families.bailing_moe import AROUND_THE_BLOCKS, BAILING_MOE
from toolkit.architectures.parts.base import block
from toolkit.architectures.parts.checks import all_of, setting, silu
from toolkit.architectures.parts.experts import ROUTER, correction_bias, dense_first, experts, shared_expert
from toolkit.architectures.parts.llama_block import DEFAULTS, NORMS
from toolkit.architectures.parts.rope import rotary_metadata
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, boolean, float32, uint32

ATTENTION = (
    block("attention.query_key_value", "attn_qkv", "q+2*kv", "embd"),
    block("attention.query_layernorm", "attn_q_norm", "head"),
    block("attention.key_layernorm", "attn_k_norm", "head"),
    block("attention.dense", "attn_output", "embd", "q"),
)
MIXTURE = (
    *ROUTER,
    *correction_bias("mlp.gate.expert_bias"),
    *experts(),
    *shared_expert("mlp.shared_experts", "shared_ff"),
)


def _shared_width(config: ModelConfig) -> int:
    return config.integer("moe_intermediate_size") * config.integer("n_shared_experts")


def _metadata(config: ModelConfig) -> Metadata:
    return rotary_metadata(config) | {
        "leading_dense_block_count": uint32(config.integer("first_k_dense_replace", least=0)),
        "vocab_size": uint32(config.integer("vocab_size")),
        "expert_feed_forward_length": uint32(config.integer("moe_intermediate_size")),
        "expert_shared_feed_forward_length": uint32(config.integer("shared_ff")),
        "expert_weights_scale": float32(config.number("routed_scaling_factor")),
        "expert_shared_count": uint32(config.integer("n_shared_experts")),
        "expert_weights_norm": boolean(config.flag("norm_topk_prob")),
        "nextn_predict_layers": uint32(0),
    }


BAILING_MOE_V2 = replace(
    BAILING_MOE,
    name="bailingmoe2",
    hf_classes=("BailingMoeV2ForCausalLM",),
    compared=frozenset({"BailingMoeV2ForCausalLM"}),
    model_types=("bailing_moe_v2",),
    tensors=AROUND_THE_BLOCKS + NORMS + ATTENTION + dense_first(MIXTURE),
    class_defaults=DEFAULTS | {"partial_rotary_factor": 0.5, "norm_topk_prob": True},
    aliases={"shared_ff": "moe_shared_expert_intermediate_size"},
    derived=BAILING_MOE.derived | {"shared_ff": _shared_width},
    metadata=_metadata,
    check=all_of(
        silu, setting("use_qk_norm", True), setting("use_qkv_bias", False), setting("num_nextn_predict_layers", 0)
    ),
    vocabularies=("bpe",),
)

ARCHITECTURES = (BAILING_MOE_V2,)
