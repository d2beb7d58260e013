"""Qwen 2 VL, 2.5 VL and 2.5 Omni, their text model: Qwen 2 with rope in sections for time, height and width."""

from dataclasses import replace

from toolkit.architectures.families.qwen2 import QWEN2

QWEN2_VL = replace(
    QWEN2,
    name="qwen2vl",
    hf_classes=(
        "Qwen2VLForConditionalGeneration",
        "Qwen2VLModel",
        "Qwen2_5_VLForConditionalGeneration",
        "Qwen2_5OmniModel",
    ),
    compared=frozenset({"Qwen2_5_VLForConditionalGeneration", "Qwen2_5OmniModel"}),
    model_types=("qwen2_vl", "qwen2_vl_text", "qwen2_5_vl", "qwen2_5_vl_text", "qwen2_5_omni", "qwen2_5_omni_text"),
    rope_types=("default", "mrope"),
)

ARCHITECTURES = (QWEN2_VL,)
