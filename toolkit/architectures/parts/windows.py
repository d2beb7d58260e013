"""Layers that attend to a window only."""

from toolkit.architectures.parts.base import no_metadata
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.errors import ConfigError
from toolkit.gguf.format import Metadata, ValueType, array, uint32


def window_metadata(config: ModelConfig) -> Metadata:
    """Return the window and which layers have it; nothing where no layer has one."""
    if not config.has("sliding_window") or not any(layers := windowed_layers(config)):
        return no_metadata(config)
    return _window(config) | _pattern(layers)


def window_every(config: ModelConfig, period: int) -> Metadata:
    """Return the window, and which layers have it where not every `period`th layer alone attends to everything.

    That is the pattern that a graph of llama.cpp has built in (`load_swa_pattern` in llama-model.cpp); its converter
    leaves the key out, and so do we while the config agrees.

    Raises ConfigError where no layer has the window, since these graphs do not run without one.
    """
    layers = windowed_layers(config, period)
    if not any(layers):
        raise ConfigError(
            "config.json: no layer has the sliding window; llama.cpp runs this architecture with windowed layers only"
        )
    built_in = [(layer + 1) % period != 0 for layer in range(len(layers))]
    return _window(config) | ({} if layers == built_in else _pattern(layers))


def windowed_layers(config: ModelConfig, period: int = 4) -> list[bool]:
    """Return for every layer whether it has the window: from `layer_types`, or a pattern such as 4 or LLLG.

    Where the config has neither, every `period`th layer attends to everything.

    Raises ConfigError for a pattern that is neither.
    """
    n_layer = config.integer("num_hidden_layers")
    types = config.text_list("layer_types", [])
    if types:
        return [kind == "sliding_attention" for kind in types]
    pattern = config.get("sliding_window_pattern", config.get("global_attn_every_n_layers", period))
    if isinstance(pattern, str) and pattern:
        return [pattern[layer % len(pattern)] == "L" for layer in range(n_layer)]
    if not isinstance(pattern, int) or pattern < 1:
        raise ConfigError(
            f"config.json: sliding_window_pattern is {pattern!r}, expected a number above 0 or letters such as LLLG"
        )
    return [(layer + 1) % pattern != 0 for layer in range(n_layer)]


def _window(config: ModelConfig) -> Metadata:
    return {"attention.sliding_window": uint32(config.integer("sliding_window"))}


def _pattern(layers: list[bool]) -> Metadata:
    return {"attention.sliding_window_pattern": array(ValueType.BOOL, layers)}
