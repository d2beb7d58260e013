"""PaddleOCR-VL, its text model: ERNIE 4.5 with rope in sections, for which llama.cpp rotates halves as the checkpoint does."""

from dataclasses import replace

from toolkit.architectures.families.ernie4_5 import ERNIE4_5

PADDLEOCR = replace(
    ERNIE4_5,
    name="paddleocr",
    hf_classes=("PaddleOCRVLForConditionalGeneration",),
    model_types=("paddleocr_vl",),
    rope_types=("default", "mrope"),
)

ARCHITECTURES = (PADDLEOCR,)
