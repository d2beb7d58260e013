"""Qwen 1.5 and 2 with experts, one of which every token passes, behind a gate of its own."""

from dataclasses import replace

from toolkit.architectures.families.llama import AROUND_THE_BLOCKS, ATTENTION, QKV_BIAS
from toolkit.architectures.families.qwen2 import QWEN2
from toolkit.architectures.parts.base import block
from toolkit.architectures.parts.checks import all_of, setting
from toolkit.architectures.parts.experts import ROUTER, experts, shared_expert
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, uint32

SHARED_EXPERT = (
    *shared_expert("mlp.shared_expert", "shared_expert_intermediate_size"),
    block("mlp.shared_expert_gate", "ffn_gate_inp_shexp", "1", "embd"),
)
EVERY_LAYER_HAS_EXPERTS = all_of(setting("decoder_sparse_step", 1), setting("mlp_only_layers", []))


def experts_metadata(config: ModelConfig) -> Metadata:
    """Return the widths of the experts."""
    metadata: Metadata = {"expert_feed_forward_length": uint32(config.integer("moe_intermediate_size"))}
    if config.get("shared_expert_intermediate_size") is not None:
        metadata["expert_shared_feed_forward_length"] = uint32(config.integer("shared_expert_intermediate_size"))
    return metadata


QWEN2_MOE = replace(
    QWEN2,
    name="qwen2moe",
    hf_classes=("Qwen2MoeForCausalLM",),
    model_types=("qwen2_moe",),
    tensors=AROUND_THE_BLOCKS + ATTENTION + QKV_BIAS + ROUTER + experts() + SHARED_EXPERT,
    defaults=QWEN2.defaults
    | {
        "intermediate_size": 5632,
        "num_key_value_heads": 16,
        "num_local_experts": 60,
        "num_experts_per_tok": 4,
        "moe_intermediate_size": 1408,
        "shared_expert_intermediate_size": 5632,
    },
    metadata=experts_metadata,
    check=all_of(QWEN2.check, EVERY_LAYER_HAS_EXPERTS),
)

ARCHITECTURES = (QWEN2_MOE,)
