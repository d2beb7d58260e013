"""Mistral Small 3.1 and Ministral 3: Mistral's block, alone or in a model that also sees; attention grows with position."""

from dataclasses import replace

from toolkit.architectures.families.mistral import MISTRAL
from toolkit.architectures.parts.checks import all_of, setting, silu
from toolkit.architectures.parts.llama_block import head_lengths, llama_metadata
from toolkit.architectures.parts.rope import global_rope
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, float32


def _metadata(config: ModelConfig) -> Metadata:
    metadata = llama_metadata(config) | head_lengths(config)
    if config.text("model_type") != "ministral3":
        return metadata
    rope = global_rope(config)
    return metadata | {
        "rope.scaling.yarn_log_multiplier": float32(rope.number("mscale_all_dim")),
        "attention.temperature_scale": float32(rope.number("llama_4_scaling_beta")),
    }


MISTRAL3 = replace(
    MISTRAL,
    name="mistral3",
    hf_classes=("Mistral3ForConditionalGeneration", "Ministral3ForCausalLM"),
    compared=frozenset({"Mistral3ForConditionalGeneration", "Ministral3ForCausalLM"}),
    model_types=("mistral3", "ministral3"),
    metadata=_metadata,
    check=all_of(silu, setting("model_type", "mistral", "ministral3", "mistral3")),
)

ARCHITECTURES = (MISTRAL3,)
