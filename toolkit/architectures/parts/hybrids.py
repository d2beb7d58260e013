"""Models whose layers are not all of one kind."""

from collections.abc import Iterable

from toolkit.checkpoint.model_config import ModelConfig
from toolkit.errors import ConfigError
from toolkit.gguf.format import MetadataValue, ValueType, array

UNBOUNDED_CONTEXT = 1 << 20
"""what llama.cpp's converter writes as the context length of models without positions"""


def layer_type(config: ModelConfig, layer: int) -> str:
    """Return the kind of a layer as `layer_types` names it.

    Raises ConfigError if it names fewer layers than there are.
    """
    types = config.text_list("layer_types")
    if layer >= len(types):
        raise ConfigError(f"config.json: layer_types names {len(types)} layers, but there is a layer {layer}")
    return types[layer]


def per_layer(value: int, has_it: Iterable[bool]) -> MetadataValue:
    """Return an array with the value for the layers that have it, and 0 for the others."""
    return array(ValueType.INT32, [value if has else 0 for has in has_it])
