"""Layers that attend to a window only."""

from toolkit.architectures.base import no_metadata
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, ValueType, array, uint32


def window_metadata(config: ModelConfig) -> Metadata:
    """Return the window and which layers have it; nothing where the config has no window."""
    if config.get("sliding_window") is None:
        return no_metadata(config)
    pattern = windowed_layers(config)
    return {
        "attention.sliding_window": uint32(config.integer("sliding_window")),
        "attention.sliding_window_pattern": array(ValueType.BOOL, pattern),
    }


def windowed_layers(config: ModelConfig) -> list[bool]:
    """Return for every layer whether it has the window: from `layer_types`, or a pattern such as 4 or LLLG."""
    n_layer = config.integer("num_hidden_layers")
    types = config.get("layer_types")
    if types:
        return [kind == "sliding_attention" for kind in types]
    pattern = config.get("sliding_window_pattern", 4)
    if isinstance(pattern, str):
        return [pattern[layer % len(pattern)] == "L" for layer in range(n_layer)]
    return [(layer + 1) % pattern != 0 for layer in range(n_layer)]
