"""Qwen 3 VL with experts, which its checkpoints store stacked and transposed."""

from dataclasses import replace

from toolkit.architectures.families.llama import AROUND_THE_BLOCKS, ATTENTION, ATTENTION_BIAS
from toolkit.architectures.families.qwen2_moe import experts_metadata
from toolkit.architectures.families.qwen3 import HEAD_NORMS
from toolkit.architectures.families.qwen3_moe import QWEN3_MOE
from toolkit.architectures.families.qwen3_vl import deepstack_metadata
from toolkit.architectures.parts.experts import ROUTER, stacked_and_transposed

QWEN3_VL_MOE = replace(
    QWEN3_MOE,
    name="qwen3vlmoe",
    hf_classes=("Qwen3VLMoeForConditionalGeneration",),
    model_types=("qwen3_vl_moe", "qwen3_vl_moe_text"),
    tensors=AROUND_THE_BLOCKS
    + ATTENTION
    + ATTENTION_BIAS
    + HEAD_NORMS
    + ROUTER
    + stacked_and_transposed("mlp.experts", "expert_ff"),
    metadata=lambda config: experts_metadata(config) | deepstack_metadata(config),
    rope_types=("default", "mrope"),
)

ARCHITECTURES = (QWEN3_VL_MOE,)
