"""The text models of GLM 4.1V and GLM-OCR: GLM 4 with rope in sections, for which llama.cpp rotates halves."""

from dataclasses import replace

import numpy

from toolkit.architectures.families.glm4 import GLM4
from toolkit.architectures.parts.base import in_layers, transformed
from toolkit.architectures.parts.dimensions import head_dim
from toolkit.architectures.parts.prediction import SHARING_NEXT_TOKENS, blocks, prediction_layers, predicts
from toolkit.architectures.parts.rope import global_rope, rotary_dimensions, rotary_metadata
from toolkit.architectures.parts.transforms import regrouped
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, uint32
from toolkit.gguf.rows import RowSource


def halves_apart(source: RowSource, config: ModelConfig) -> RowSource:
    """Order the rotated rows of every head from neighbours to halves, if rope has sections: that of them rotates halves."""
    if not global_rope(config).has("mrope_section"):
        return source
    length = head_dim(config)
    turned = rotary_dimensions(config, length)
    within = numpy.concatenate([numpy.arange(0, turned, 2), numpy.arange(1, turned, 2), numpy.arange(turned, length)])
    heads = numpy.arange(source.shape[0] // length)
    return regrouped(source, (heads[:, None] * length + within).reshape(-1))


GLM4V = replace(
    GLM4,
    hf_classes=("Glm4vForConditionalGeneration",),
    compared=frozenset({"Glm4vForConditionalGeneration"}),
    model_types=("glm4v", "glm4v_text"),
    tensors=transformed(GLM4.tensors, halves_apart, "q_proj", "k_proj"),
    rope_types=(*GLM4.rope_types, "mrope"),
)


def _ocr_metadata(config: ModelConfig) -> Metadata:
    return rotary_metadata(config) | {"nextn_predict_layers": uint32(prediction_layers(config))}


GLM_OCR = replace(
    GLM4V,
    hf_classes=("GlmOcrForConditionalGeneration",),
    compared=frozenset({"GlmOcrForConditionalGeneration"}),
    model_types=("glm_ocr", "glm_ocr_text"),
    tensors=GLM4V.tensors + in_layers(SHARING_NEXT_TOKENS, predicts),
    metadata=_ocr_metadata,
    block_count=blocks,
)

ARCHITECTURES = (GLM4V, GLM_OCR)
