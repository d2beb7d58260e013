"""ERNIE 4.5 with experts: dense first layers, a correction bias, experts that every token passes."""

from dataclasses import replace

from toolkit.architectures.families.ernie4_5 import ERNIE4_5, ERNIE_DEFAULTS
from toolkit.architectures.parts.base import TensorRule, in_layers, other_than
from toolkit.architectures.parts.experts import ROUTER, experts, shared_expert
from toolkit.architectures.parts.llama_block import AROUND_THE_BLOCKS, ATTENTION, GATED_MLP
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, uint32

SHARED = "moe_intermediate_size*moe_num_shared_experts"
CORRECTION_BIAS = TensorRule(
    "model.layers.{layer}.mlp.moe_statics.e_score_correction_bias", "blk.{layer}.exp_probs_b.bias", ("1", "experts")
)
MIXTURE = (*ROUTER, CORRECTION_BIAS, *experts(), *shared_expert("mlp.shared_experts", SHARED))


def _has_experts(config: ModelConfig, layer: int) -> bool:
    return (
        layer >= config.integer("moe_layer_start_index", least=0)
        and (layer + 1) % config.integer("moe_layer_interval") == 0
    )


def _metadata(config: ModelConfig) -> Metadata:
    width, shared = config.integer("moe_intermediate_size"), config.integer("moe_num_shared_experts", least=0)
    metadata: Metadata = {
        "interleave_moe_layer_step": uint32(config.integer("moe_layer_interval")),
        "leading_dense_block_count": uint32(config.integer("moe_layer_start_index", least=0)),
        "expert_feed_forward_length": uint32(width),
        "expert_shared_count": uint32(shared),
    }
    return metadata | ({"expert_shared_feed_forward_length": uint32(width * shared)} if shared else {})


ERNIE4_5_MOE = replace(
    ERNIE4_5,
    name="ernie4_5-moe",
    hf_classes=("Ernie4_5_MoeForCausalLM",),
    compared=frozenset({"Ernie4_5_MoeForCausalLM"}),
    model_types=("ernie4_5_moe",),
    tensors=AROUND_THE_BLOCKS
    + ATTENTION
    + in_layers(GATED_MLP, other_than(_has_experts))
    + in_layers(MIXTURE, _has_experts),
    class_defaults=ERNIE_DEFAULTS
    | {
        "num_key_value_heads": 4,
        "num_local_experts": 64,
        "num_experts_per_tok": 6,
        "moe_intermediate_size": 1536,
        "moe_num_shared_experts": 2,
        "moe_layer_start_index": 1,
        "moe_layer_interval": 1,
    },
    metadata=_metadata,
    dropped=ERNIE4_5.dropped
    | {r"model\.mtp_\w+\..*": "multi-token prediction head, which llama.cpp does not run here"},
)

ARCHITECTURES = (ERNIE4_5_MOE,)
