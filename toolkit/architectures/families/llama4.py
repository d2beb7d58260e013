"""Llama 4's text model: experts in every other layer, stored stacked and transposed; every fourth layer without rope."""

from dataclasses import replace

from toolkit.architectures.families.llama import LLAMA
from toolkit.architectures.parts.base import block, in_layers, other_than
from toolkit.architectures.parts.checks import all_of, check_rope_pattern, silu
from toolkit.architectures.parts.experts import shared_expert, stacked_and_transposed
from toolkit.architectures.parts.llama_block import AROUND_THE_BLOCKS, ATTENTION, DEFAULTS, gated_mlp, llama_metadata
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, uint32

_DENSE_FF = "intermediate_size_mlp"
MIXTURE = (
    block("feed_forward.router", "ffn_gate_inp", "experts", "embd"),
    *stacked_and_transposed("feed_forward.experts", "ff"),
    *shared_expert("feed_forward.shared_expert", "ff"),
)


def _has_experts(config: ModelConfig, layer: int) -> bool:
    return (layer + 1) % config.integer("interleave_moe_layer_step") == 0


def _metadata(config: ModelConfig) -> Metadata:
    metadata = llama_metadata(config) | {
        "feed_forward_length": uint32(config.integer(_DENSE_FF)),
        "interleave_moe_layer_step": uint32(config.integer("interleave_moe_layer_step")),
        "expert_feed_forward_length": uint32(config.integer("intermediate_size")),
    }
    types = config.text_list("layer_types", [])
    everywhere = bool(types) and all(kind == "full_attention" for kind in types)
    return metadata | ({"attention.sliding_window": uint32(0)} if everywhere else {})


LLAMA4 = replace(
    LLAMA,
    name="llama4",
    hf_classes=("Llama4ForCausalLM", "Llama4ForConditionalGeneration"),
    compared=frozenset({"Llama4ForCausalLM", "Llama4ForConditionalGeneration"}),
    model_types=("llama4_text", "llama4"),
    tensors=AROUND_THE_BLOCKS
    + ATTENTION
    + in_layers(gated_mlp("feed_forward", ff=_DENSE_FF), other_than(_has_experts))
    + in_layers(MIXTURE, _has_experts),
    class_defaults=DEFAULTS
    | {
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "num_local_experts": 16,
        "num_experts_per_tok": 1,
        "interleave_moe_layer_step": 1,
        "intermediate_size": 8192,
        "intermediate_size_mlp": 16384,
    },
    metadata=_metadata,
    check=all_of(silu, check_rope_pattern),
)

ARCHITECTURES = (LLAMA4,)
