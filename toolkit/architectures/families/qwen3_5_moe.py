"""Qwen 3.5 with experts in every layer."""

from dataclasses import replace

from toolkit.architectures.families.qwen3_5 import QWEN3_5
from toolkit.architectures.parts.base import without
from toolkit.architectures.parts.experts import GATED_SHARED_EXPERT, ROUTER, expert_widths, experts
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, uint32


def _metadata(config: ModelConfig) -> Metadata:
    metadata = QWEN3_5.metadata(config) | expert_widths(config)
    if not config.has("intermediate_size"):
        return metadata
    return metadata | {"feed_forward_length": uint32(config.integer("intermediate_size"))}


QWEN3_5_MOE = replace(
    QWEN3_5,
    name="qwen35moe",
    hf_classes=("Qwen3_5MoeForCausalLM", "Qwen3_5MoeForConditionalGeneration"),
    compared=frozenset({"Qwen3_5MoeForCausalLM"}),
    model_types=("qwen3_5_moe_text", "qwen3_5_moe"),
    tensors=without(QWEN3_5.tensors, "mlp.") + ROUTER + experts() + GATED_SHARED_EXPERT,
    metadata=_metadata,
    unwritten=frozenset({"feed_forward_length"}),
)

ARCHITECTURES = (QWEN3_5_MOE,)
