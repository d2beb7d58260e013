"""Qwen 3 VL, its text model: Qwen 3 with rope in sections, and image features added in several layers."""

from dataclasses import replace

from toolkit.architectures.families.qwen3 import QWEN3
from toolkit.architectures.parts.common_metadata import deepstack_metadata

QWEN3_VL = replace(
    QWEN3,
    name="qwen3vl",
    hf_classes=("Qwen3VLForConditionalGeneration",),
    compared=frozenset({"Qwen3VLForConditionalGeneration"}),
    model_types=("qwen3_vl", "qwen3_vl_text"),
    metadata=deepstack_metadata,
    rope_types=("default", "mrope"),
)

ARCHITECTURES = (QWEN3_VL,)
