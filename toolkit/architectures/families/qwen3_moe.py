"""Qwen 3 with experts."""

from dataclasses import replace

from toolkit.architectures.families.qwen3 import DEFAULTS, QWEN3
from toolkit.architectures.parts.checks import all_of
from toolkit.architectures.parts.experts import EVERY_LAYER_HAS_EXPERTS, ROUTER, expert_widths, experts
from toolkit.architectures.parts.llama_block import AROUND_THE_BLOCKS, ATTENTION, ATTENTION_BIAS, HEAD_NORMS

QWEN3_MOE = replace(
    QWEN3,
    name="qwen3moe",
    hf_classes=("Qwen3MoeForCausalLM",),
    compared=frozenset({"Qwen3MoeForCausalLM"}),
    model_types=("qwen3_moe",),
    tensors=AROUND_THE_BLOCKS + ATTENTION + ATTENTION_BIAS + HEAD_NORMS + ROUTER + experts(),
    class_defaults=DEFAULTS
    | {
        "intermediate_size": 6144,
        "num_key_value_heads": 4,
        "num_local_experts": 128,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 768,
    },
    metadata=expert_widths,
    check=all_of(QWEN3.check, EVERY_LAYER_HAS_EXPERTS),
)

ARCHITECTURES = (QWEN3_MOE,)
