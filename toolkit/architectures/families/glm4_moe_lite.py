"""GLM 4.7 Flash: DeepSeek's graph under GLM's name."""

from dataclasses import replace

from toolkit.architectures.families.deepseek_v2 import DEEPSEEK2, deepseek_metadata
from toolkit.architectures.parts.base import in_layers, keep_name
from toolkit.architectures.parts.prediction import NEXT_TOKENS, blocks, prediction_layers, predicts
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, uint32


def _metadata(config: ModelConfig) -> Metadata:
    count = prediction_layers(config)
    return deepseek_metadata(config) | ({"nextn_predict_layers": uint32(count)} if count else {})


GLM4_MOE_LITE = replace(
    DEEPSEEK2,
    hf_classes=("Glm4MoeLiteForCausalLM",),
    compared=frozenset({"Glm4MoeLiteForCausalLM"}),
    model_types=("glm4_moe_lite",),
    tensors=DEEPSEEK2.tensors + in_layers(NEXT_TOKENS, predicts),
    metadata=_metadata,
    block_count=blocks,
    renamed=keep_name,
)

ARCHITECTURES = (GLM4_MOE_LITE,)
