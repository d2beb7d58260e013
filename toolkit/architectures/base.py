"""What an architecture is: a value that says which tensors a model has, where they come from, and what metadata it needs.

An architecture never touches files. Its tensors are rules; a rule names a tensor of the checkpoint, the GGUF tensor that it
becomes, the shape that the config implies, and the transform between them, if any.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy
from numpy.typing import NDArray

from toolkit.gguf_format import Metadata
from toolkit.model_config import Default, ModelConfig
from toolkit.rows import RowSource

Transform = Callable[[RowSource, ModelConfig], RowSource]
Presence = bool | str | Callable[[ModelConfig], bool]


@dataclass(frozen=True)
class TensorRule:
    """How one tensor (of every block, if its names hold `{layer}`) gets from the checkpoint into the GGUF file.

    `shape` names dimensions (see `dimensions`). `required` is True, False, or the name of a boolean key of the config.
    """

    source: str
    target: str
    shape: tuple[str, ...]
    transform: Transform | None = None
    required: Presence = True

    @property
    def per_layer(self) -> bool:
        """Tell whether every block has such a tensor."""
        return "{layer}" in self.source

    def is_required(self, config: ModelConfig) -> bool:
        """Tell whether a checkpoint with this config must hold the tensor."""
        if isinstance(self.required, str):
            return bool(config.get(self.required, False))
        return self.required(config) if callable(self.required) else self.required


@dataclass(frozen=True)
class Dimension:
    """A length that the config implies, and the keys that imply it."""

    length: int
    key: str


def no_metadata(_config: ModelConfig) -> Metadata:
    """Return nothing: an architecture that needs only the common keys."""
    return {}


def no_generated_tensors(_config: ModelConfig) -> dict[str, NDArray[numpy.float32]]:
    """Return nothing: an architecture all of whose tensors come from the checkpoint."""
    return {}


def no_check(_config: ModelConfig) -> None:
    """Accept every config."""


@dataclass(frozen=True)
class Architecture:
    """One model family, as llama.cpp knows it."""

    name: str
    """`general.architecture` of the GGUF file"""
    hf_classes: tuple[str, ...]
    """class names in `architectures` of config.json"""
    model_types: tuple[str, ...]
    tensors: tuple[TensorRule, ...]
    defaults: Mapping[str, Default]
    """what the transformers class fills in where config.json is silent"""
    metadata: Callable[[ModelConfig], Metadata] = no_metadata
    generated_tensors: Callable[[ModelConfig], dict[str, NDArray[numpy.float32]]] = no_generated_tensors
    check: Callable[[ModelConfig], None] = no_check
    """refuses configs that llama.cpp would run wrongly"""
    rope_types: tuple[str, ...] = ("default", "linear", "yarn")
    vocabularies: tuple[str, ...] = ("sentencepiece", "bpe")
    """the styles of vocabulary, in the order in which they are looked for"""
    dropped: Mapping[str, str] = field(default_factory=dict)
    """regular expression of tensor names that are left out -> why"""


def head_dim(config: ModelConfig) -> int:
    """Return the length of an attention head: the config's own, or hidden size / heads."""
    explicit = config.values.get("head_dim", config.defaults.get("head_dim"))
    if isinstance(explicit, int):
        return explicit
    return config.integer("hidden_size") // config.integer("num_attention_heads")


def dimensions(config: ModelConfig, vocabulary_rows: int) -> dict[str, Dimension]:
    """Return the lengths that shapes in rules are made of.

    `vocabulary_rows` are the rows of the embedding, which win over `vocab_size`.
    """
    heads, kv_heads, head = (
        config.integer("num_attention_heads"),
        config.integer("num_key_value_heads"),
        head_dim(config),
    )
    head_key = "head_dim" if "head_dim" in config.values else "hidden_size / num_attention_heads"
    return {
        "embd": Dimension(config.integer("hidden_size"), "hidden_size"),
        "ff": Dimension(config.integer("intermediate_size"), "intermediate_size"),
        "head": Dimension(head, head_key),
        "q": Dimension(heads * head, f"num_attention_heads x {head_key}"),
        "kv": Dimension(kv_heads * head, f"num_key_value_heads x {head_key}"),
        "vocab": Dimension(vocabulary_rows, "the rows of the embedding"),
    }
