"""Mistral Small 3.1 and Ministral 3: Mistral's block, alone or in a model that also sees; attention grows with position."""

from dataclasses import replace

from toolkit.architectures.families.mistral import MISTRAL
from toolkit.architectures.parts.checks import all_of, setting, silu
from toolkit.architectures.parts.llama_block import computed_head_dim, llama_metadata
from toolkit.architectures.parts.rope import global_rope
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, float32


def _metadata(config: ModelConfig) -> Metadata:
    if config["model_type"] != "ministral3":
        return llama_metadata(config)
    rope = global_rope(config)
    return llama_metadata(config) | {
        "rope.scaling.yarn_log_multiplier": float32(rope["mscale_all_dim"]),
        "attention.temperature_scale": float32(rope["llama_4_scaling_beta"]),
    }


MISTRAL3 = replace(
    MISTRAL,
    name="mistral3",
    hf_classes=("Mistral3ForConditionalGeneration", "Ministral3ForCausalLM"),
    model_types=("mistral3", "ministral3"),
    defaults=MISTRAL.defaults | {"head_dim": computed_head_dim},
    metadata=_metadata,
    check=all_of(silu, setting("model_type", "mistral", "ministral3", "mistral3")),
)

ARCHITECTURES = (MISTRAL3,)
