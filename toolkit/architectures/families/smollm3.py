"""SmolLM 3: Llama with every fourth layer free of rope, a pattern that llama.cpp has built in."""

from dataclasses import replace

from toolkit.architectures.families.llama import DEFAULTS, LLAMA
from toolkit.architectures.parts.checks import silu
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.errors import ConfigError


def check_rope_pattern(config: ModelConfig) -> None:
    """Refuse another pattern of layers without rope than every fourth.

    Raises ConfigError.
    """
    silu(config)
    pattern = config.get("no_rope_layers", [])
    interval = config.get("no_rope_layer_interval", 4)
    built_in = [int((layer + 1) % 4 != 0) for layer in range(config.integer("num_hidden_layers"))]
    if (pattern and pattern != built_in) or (not pattern and interval != 4):
        raise ConfigError("config.json: no_rope_layers is not every fourth layer, the only pattern that llama.cpp runs")


SMOLLM3 = replace(
    LLAMA,
    name="smollm3",
    hf_classes=("SmolLM3ForCausalLM",),
    model_types=("smollm3",),
    defaults=DEFAULTS
    | {
        "num_key_value_heads": 4,
        "max_position_embeddings": 32768,
        "rope_theta": 2000000.0,
        "tie_word_embeddings": True,
    },
    check=check_rope_pattern,
)

ARCHITECTURES = (SMOLLM3,)
