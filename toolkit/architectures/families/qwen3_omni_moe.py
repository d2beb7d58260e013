"""The text model of Qwen 3 Omni: that of Qwen 3 VL with experts, stored one by one."""

from dataclasses import replace

from toolkit.architectures.families.qwen3_moe import QWEN3_MOE
from toolkit.architectures.families.qwen3_vl_moe import QWEN3_VL_MOE

QWEN3_OMNI_MOE = replace(
    QWEN3_VL_MOE,
    hf_classes=("Qwen3OmniMoeForConditionalGeneration",),
    model_types=("qwen3_omni_moe", "qwen3_omni_moe_text"),
    tensors=QWEN3_MOE.tensors,
)

ARCHITECTURES = (QWEN3_OMNI_MOE,)
