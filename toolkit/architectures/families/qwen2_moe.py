"""Qwen 1.5 and 2 with experts, one of which every token passes, behind a gate of its own."""

from dataclasses import replace

from toolkit.architectures.families.qwen2 import QWEN2
from toolkit.architectures.parts.checks import all_of
from toolkit.architectures.parts.experts import (
    EVERY_LAYER_HAS_EXPERTS,
    GATED_SHARED_EXPERT,
    ROUTER,
    expert_widths,
    experts,
)
from toolkit.architectures.parts.llama_block import AROUND_THE_BLOCKS, ATTENTION, QKV_BIAS

QWEN2_MOE = replace(
    QWEN2,
    name="qwen2moe",
    hf_classes=("Qwen2MoeForCausalLM",),
    compared=frozenset({"Qwen2MoeForCausalLM"}),
    model_types=("qwen2_moe",),
    tensors=AROUND_THE_BLOCKS + ATTENTION + QKV_BIAS + ROUTER + experts() + GATED_SHARED_EXPERT,
    class_defaults=QWEN2.class_defaults
    | {
        "intermediate_size": 5632,
        "num_key_value_heads": 16,
        "num_local_experts": 60,
        "num_experts_per_tok": 4,
        "moe_intermediate_size": 1408,
        "shared_expert_intermediate_size": 5632,
    },
    metadata=expert_widths,
    check=all_of(QWEN2.check, EVERY_LAYER_HAS_EXPERTS),
)

ARCHITECTURES = (QWEN2_MOE,)
