"""Qwen 3 with experts."""

from dataclasses import replace

from toolkit.architectures.families.llama import AROUND_THE_BLOCKS, ATTENTION, ATTENTION_BIAS
from toolkit.architectures.families.qwen2 import QWEN2
from toolkit.architectures.families.qwen2_moe import EVERY_LAYER_HAS_EXPERTS, experts_metadata
from toolkit.architectures.families.qwen3 import HEAD_NORMS, QWEN3
from toolkit.architectures.parts.checks import all_of
from toolkit.architectures.parts.experts import ROUTER, experts

QWEN3_MOE = replace(
    QWEN3,
    name="qwen3moe",
    hf_classes=("Qwen3MoeForCausalLM",),
    model_types=("qwen3_moe",),
    tensors=AROUND_THE_BLOCKS + ATTENTION + ATTENTION_BIAS + HEAD_NORMS + ROUTER + experts(),
    defaults=QWEN2.defaults
    | {
        "attention_bias": False,
        "intermediate_size": 6144,
        "num_key_value_heads": 4,
        "num_local_experts": 128,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 768,
    },
    metadata=experts_metadata,
    check=all_of(QWEN3.check, EVERY_LAYER_HAS_EXPERTS),
)

ARCHITECTURES = (QWEN3_MOE,)
