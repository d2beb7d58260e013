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
