"""LFM 2 with experts after the first layers."""

from dataclasses import replace

from toolkit.architectures.families.lfm2 import (
    AROUND,
    ATTENTION,
    CONVOLUTION,
    LFM2,
    MLP,
    NORMS,
    has_attention,
    hybrid_metadata,
)
from toolkit.architectures.parts.base import block, in_layers, other_than
from toolkit.architectures.parts.experts import MIXTRAL_NAMES, SIGMOID, correction_bias, experts
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, uint32

MIXTURE = (
    block("feed_forward.gate", "ffn_gate_inp", "experts", "embd"),
    *(replace(tensor, required="use_expert_bias") for tensor in correction_bias("feed_forward.expert_bias")),
    *experts("feed_forward.experts", names=MIXTRAL_NAMES),
)


def _is_dense(config: ModelConfig, layer: int) -> bool:
    return layer < config.integer("num_dense_layers", least=0)


def _metadata(config: ModelConfig) -> Metadata:
    return hybrid_metadata(config) | {
        "expert_feed_forward_length": uint32(config.integer("moe_intermediate_size")),
        "leading_dense_block_count": uint32(config.integer("num_dense_layers", least=0)),
        "expert_gating_func": SIGMOID,
    }


LFM2_MOE = replace(
    LFM2,
    name="lfm2moe",
    hf_classes=("Lfm2MoeForCausalLM",),
    compared=frozenset({"Lfm2MoeForCausalLM"}),
    model_types=("lfm2_moe",),
    tensors=AROUND
    + NORMS
    + in_layers(CONVOLUTION, other_than(has_attention))
    + in_layers(ATTENTION, has_attention)
    + in_layers(MLP, _is_dense)
    + in_layers(MIXTURE, other_than(_is_dense)),
    class_defaults=LFM2.class_defaults | {"use_expert_bias": True},
    aliases={"mlp_width": "intermediate_size"},
    metadata=_metadata,
)

ARCHITECTURES = (LFM2_MOE,)
