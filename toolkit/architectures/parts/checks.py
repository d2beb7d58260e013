"""What llama.cpp's graphs have built in: configs that say otherwise are refused, because they would run wrongly."""

from collections.abc import Callable

from toolkit.checkpoint.model_config import ModelConfig
from toolkit.errors import ConfigError

Check = Callable[[ModelConfig], None]


def activation(*names: str) -> Check:
    """Return the check that the activation is one of these."""

    def check(config: ModelConfig) -> None:
        found = config["hidden_act"]
        if found not in names:
            raise ConfigError(f"config.json: hidden_act {found!r}; llama.cpp computes {names[0]} for this architecture")

    return check


def setting(key: str, *allowed: object) -> Check:
    """Return the check that a key, if it is there, has one of these values."""

    def check(config: ModelConfig) -> None:
        found = config.get(key)
        if found is not None and found not in allowed:
            expected = " or ".join(repr(value) for value in allowed) or "no such key"
            raise ConfigError(f"config.json: {key} is {found!r}; llama.cpp runs this architecture with {expected} only")

    return check


def all_of(*checks: Check) -> Check:
    """Return the check that makes all of these."""

    def check(config: ModelConfig) -> None:
        for one in checks:
            one(config)

    return check


silu = activation("silu", "swish")
gelu = activation("gelu", "gelu_new", "gelu_pytorch_tanh", "gelu_fast")
relu_squared = activation("relu2")
tied = setting("tie_word_embeddings", True)


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
