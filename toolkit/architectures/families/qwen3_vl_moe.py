"""Qwen 3 VL with experts, which its checkpoints store stacked and transposed."""

from dataclasses import replace

from toolkit.architectures.families.qwen3_moe import QWEN3_MOE
from toolkit.architectures.parts.common_metadata import deepstack_metadata
from toolkit.architectures.parts.experts import ROUTER, expert_widths, stacked_and_transposed
from toolkit.architectures.parts.llama_block import AROUND_THE_BLOCKS, ATTENTION, ATTENTION_BIAS, HEAD_NORMS

QWEN3_VL_MOE = replace(
    QWEN3_MOE,
    name="qwen3vlmoe",
    hf_classes=("Qwen3VLMoeForConditionalGeneration",),
    compared=frozenset({"Qwen3VLMoeForConditionalGeneration"}),
    model_types=("qwen3_vl_moe", "qwen3_vl_moe_text"),
    tensors=AROUND_THE_BLOCKS
    + ATTENTION
    + ATTENTION_BIAS
    + HEAD_NORMS
    + ROUTER
    + stacked_and_transposed("mlp.experts", "expert_ff"),
    metadata=lambda config: expert_widths(config) | deepstack_metadata(config),
    rope_types=("default", "mrope"),
)

QWEN3_OMNI_MOE = replace(
    QWEN3_VL_MOE,
    hf_classes=("Qwen3OmniMoeForConditionalGeneration",),
    compared=frozenset({"Qwen3OmniMoeForConditionalGeneration"}),
    model_types=("qwen3_omni_moe", "qwen3_omni_moe_text"),
    tensors=QWEN3_MOE.tensors,
)
"""The text model of Qwen 3 Omni, whose experts are stored one by one."""

ARCHITECTURES = (QWEN3_VL_MOE, QWEN3_OMNI_MOE)
