"""Step3-VL, its text model: Qwen 3."""

from dataclasses import replace

from toolkit.architectures.families.qwen3 import QWEN3

STEP3_VL = replace(
    QWEN3,
    hf_classes=("StepVLForConditionalGeneration",),
    model_types=("step3_vl",),
    pools=False,
)

ARCHITECTURES = (STEP3_VL,)
