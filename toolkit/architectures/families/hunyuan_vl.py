"""Hunyuan VL and HunyuanOCR, their text model: Hunyuan dense with rope in sections, whose base llama.cpp stretches itself."""

from dataclasses import replace

from toolkit.architectures.families.hunyuan_v1_dense import HUNYUAN
from toolkit.architectures.parts.checks import silu
from toolkit.architectures.parts.rope import global_rope, rope_theta
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, ValueType, array, float32, string, uint32


def _metadata(config: ModelConfig) -> Metadata:
    rope, context = global_rope(config), uint32(config.integer("max_position_embeddings"))
    sections = next((key for key in ("xdrope_section", "mrope_section") if rope.has(key)), None)
    if sections is None:
        return {}
    return {
        "rope.freq_base": float32(rope_theta(config)),
        "rope.scaling.alpha": float32(rope.number("alpha")),
        "rope.scaling.type": string("none"),
        "rope.scaling.factor": float32(rope.number("factor", 1.0)),
        "rope.scaling.original_context_length": context,
        "rope.dimension_sections": array(ValueType.INT32, rope.integer_list(sections)),
    }


HUNYUAN_VL = replace(
    HUNYUAN,
    name="hunyuan_vl",
    hf_classes=("HunYuanVLForConditionalGeneration",),
    compared=frozenset({"HunYuanVLForConditionalGeneration"}),
    model_types=("hunyuan_vl", "hunyuan_vl_text"),
    metadata=_metadata,
    check=silu,
)

ARCHITECTURES = (HUNYUAN_VL,)
