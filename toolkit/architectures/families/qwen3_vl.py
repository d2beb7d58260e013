"""Qwen 3 VL, its text model: Qwen 3 with rope in sections, and image features added in several layers."""

from dataclasses import replace

from toolkit.architectures.families.qwen3 import QWEN3
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, uint32


def deepstack_metadata(config: ModelConfig) -> Metadata:
    """Return the number of layers that take image features."""
    return {"n_deepstack_layers": uint32(len(config.get("vision_config", {}).get("deepstack_visual_indexes", ())))}


QWEN3_VL = replace(
    QWEN3,
    name="qwen3vl",
    hf_classes=("Qwen3VLForConditionalGeneration",),
    model_types=("qwen3_vl", "qwen3_vl_text"),
    metadata=deepstack_metadata,
    rope_types=("default", "mrope"),
)

ARCHITECTURES = (QWEN3_VL,)
