"""What an architecture is: a value that says which tensors a model has, where they come from, and what metadata it needs.

An architecture never touches files. Its tensors are rules; a rule names a tensor of the checkpoint, the GGUF tensor that it
becomes, the shape that the config implies, and the transform between them, if any.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy
from numpy.typing import NDArray

from toolkit.checkpoint.model_config import Derived, ModelConfig
from toolkit.gguf.format import Metadata
from toolkit.gguf.rows import RowSource

Transform = Callable[[RowSource, ModelConfig], RowSource]
Presence = bool | str | Callable[[ModelConfig], bool]
LayerChoice = Callable[[ModelConfig, int], bool]


@dataclass(frozen=True)
class TensorRule:
    """How one tensor (of every block, if its names hold `{layer}`) gets from the checkpoint into the GGUF file.

    A source with `{expert}` stands for as many tensors as `count` says, stacked along a new first axis. Rules of the same
    target are alternatives: the first whose source is stored counts. One source may serve several targets.
    """

    source: str
    target: str
    shape: tuple[str, ...]
    """of one stored tensor, in the terms of `dimensions`"""
    transform: Transform | None = None
    required: Presence = True
    """True, False, the name of a boolean key of the config, or a function of the config"""
    layers: LayerChoice | None = None
    """tells which blocks have the tensor; None: all of them"""
    count: str = "num_local_experts"

    @property
    def per_layer(self) -> bool:
        """Tell whether every block has such a tensor."""
        return "{layer}" in self.target

    def is_required(self, config: ModelConfig) -> bool:
        """Tell whether a checkpoint with this config must hold the tensor."""
        if isinstance(self.required, str):
            return bool(config.get(self.required, False))
        return self.required(config) if callable(self.required) else self.required


Rules = tuple[TensorRule, ...]


def rule(source: str, target: str, *shape: str, transform: Transform | None = None) -> TensorRule:
    """Return a rule for a tensor outside the blocks; `.weight` is understood."""
    return TensorRule(_suffixed(source), _suffixed(target), shape, transform)


def block(
    source: str, target: str, *shape: str, transform: Transform | None = None, within: str = "layers"
) -> TensorRule:
    """Return a rule for a tensor of every block; the names go without the block's prefix, `.weight` is understood."""
    return TensorRule(
        f"model.{within}.{{layer}}.{_suffixed(source)}", f"blk.{{layer}}.{_suffixed(target)}", shape, transform
    )


def bare_block(
    source: str, target: str, *shape: str, transform: Transform | None = None, within: str = "layers"
) -> TensorRule:
    """Return a rule for a tensor of every block whose names stand as they are, without a suffix that is understood."""
    return TensorRule(f"model.{within}.{{layer}}.{source}", f"blk.{{layer}}.{target}", shape, transform)


def _suffixed(name: str) -> str:
    return name if name.endswith((".weight", ".bias")) else name + ".weight"


def biases(rules: Rules, required: Presence = True) -> Rules:
    """Return the rules of the biases that go with these weights, which move as the rows of the weights do."""
    return tuple(
        replace(
            weight,
            source=weight.source.removesuffix("weight") + "bias",
            target=weight.target.removesuffix("weight") + "bias",
            shape=weight.shape[:1],
            required=required,
        )
        for weight in rules
    )


def in_layers(rules: Rules, layers: LayerChoice) -> Rules:
    """Return the same rules for a choice of the blocks, or of those that they were for."""
    return tuple(replace(rule, layers=_both(rule.layers, layers)) for rule in rules)


def _both(first: LayerChoice | None, second: LayerChoice) -> LayerChoice:
    return second if first is None else lambda config, layer: first(config, layer) and second(config, layer)


def other_than(layers: LayerChoice) -> LayerChoice:
    """Return the choice of all the other blocks."""
    return lambda config, layer: not layers(config, layer)


def needed_in_layers(rules: Rules, layers: LayerChoice) -> Rules:
    """Return rules that a choice of the blocks must have; what the others store of it goes along."""
    optional = tuple(replace(rule, required=False) for rule in rules)
    return in_layers(rules, layers) + in_layers(optional, other_than(layers))


def without(rules: Rules, *sources: str) -> Rules:
    """Return the rules whose source contains none of these texts."""
    return tuple(rule for rule in rules if not any(text in rule.source for text in sources))


def transformed(rules: Rules, transform: Transform, *sources: str) -> Rules:
    """Return the rules with `transform` where the source contains one of these texts."""
    return tuple(
        replace(rule, transform=transform) if any(text in rule.source for text in sources) else rule for rule in rules
    )


def retargeted(rules: Rules, targets: Mapping[str, str]) -> Rules:
    """Return the rules under other GGUF names: old -> new, without the block's prefix and the suffix."""
    return tuple(replace(rule, target=_retarget(rule.target, targets)) for rule in rules)


def resized(rules: Rules, sizes: Mapping[str, str]) -> Rules:
    """Return the rules with other lengths: a term of `dimensions` -> the one that takes its place."""
    return tuple(replace(rule, shape=tuple(sizes.get(name, name) for name in rule.shape)) for rule in rules)


def _retarget(target: str, targets: Mapping[str, str]) -> str:
    stem, _, suffix = target.removeprefix("blk.{layer}.").rpartition(".")
    return target.replace(f"{stem}.{suffix}", f"{targets.get(stem, stem)}.{suffix}")


@dataclass(frozen=True)
class Naming:
    """How the checkpoints of a family call the parts that every model has, below their common prefix."""

    embedding: str = "embed_tokens"
    blocks: str = "layers"
    output: str = "lm_head"
    multi_token_prediction: bool = False
    """whether `mtp.…` tensors are part of the model"""

    @property
    def embedding_tensor(self) -> str:
        """Return the name of the token embedding."""
        return f"model.{self.embedding}.weight"

    @property
    def output_tensor(self) -> str:
        """Return the name of the output projection."""
        return f"{self.output}.weight"


def no_metadata(_config: ModelConfig) -> Metadata:
    """Return nothing: an architecture that needs only the common keys."""
    return {}


def no_generated_tensors(_config: ModelConfig) -> dict[str, NDArray[numpy.float32]]:
    """Return nothing: an architecture all of whose tensors come from the checkpoint."""
    return {}


def no_check(_config: ModelConfig) -> None:
    """Accept every config."""


def keep_name(name: str, _config: ModelConfig) -> str:
    """Return the name itself."""
    return name


def hidden_layers(config: ModelConfig) -> int:
    """Return the number of blocks where there is nothing but the hidden layers."""
    return config.integer("num_hidden_layers")


def same_as(key: str) -> Derived:
    """Return the rule for a value that is that of another key."""
    return lambda config: config[key]


def no_variant(_config: ModelConfig) -> "Architecture | None":
    """Return nothing: a class that llama.cpp always runs with the same graph."""
    return None


@dataclass(frozen=True)
class Architecture:
    """One model family, as llama.cpp knows it."""

    name: str
    """`general.architecture` of the GGUF file"""
    hf_classes: tuple[str, ...]
    """class names in `architectures` of config.json"""
    model_types: tuple[str, ...]
    tensors: Rules
    compared: frozenset[str] = frozenset()
    """those of its classes whose checkpoint was converted by llama.cpp's converter too: every key and tensor is equal, or the
    difference is named in a test; classes of the parent, which `replace` leaves here, do not count"""
    class_defaults: dict[str, Any] = field(default_factory=dict)
    """what the transformers class fills in where config.json is silent"""
    aliases: dict[str, str] = field(default_factory=dict)
    """key -> how the configs of this family alone spell it; `group.key` lies in an object"""
    derived: dict[str, Derived] = field(default_factory=dict)
    """key -> what follows from other values where nothing else says it"""
    metadata: Callable[[ModelConfig], Metadata] = no_metadata
    """keys beside and above the common ones, without the architecture's name before them"""
    unwritten: frozenset[str] = frozenset()
    """common keys that llama.cpp does not look for in this architecture; `rope` is all of them"""
    norm: str = "rms_norm_eps"
    """the key of the epsilon: rms_norm_eps or layer_norm_eps"""
    generated_tensors: Callable[[ModelConfig], dict[str, NDArray[numpy.float32]]] = no_generated_tensors
    check: Callable[[ModelConfig], None] = no_check
    """refuses configs that llama.cpp would run wrongly"""
    block_count: Callable[[ModelConfig], int] = hidden_layers
    rope_types: tuple[str, ...] = ("default", "linear", "yarn")
    vocabularies: tuple[str, ...] = ("sentencepiece", "bpe")
    """the styles of vocabulary, in the order in which they are looked for"""
    naming: Naming = Naming()
    renamed: Callable[[str, ModelConfig], str] = keep_name
    """brings names that the rules cannot express, such as blocks counted apart, to the form that they use"""
    variant: Callable[[ModelConfig], "Architecture | None"] = no_variant
    """gives another architecture for configs of the same class that llama.cpp runs with another graph"""
    scalars: Mapping[str, str] = field(default_factory=dict)
    """tensor of one number in every block -> the metadata array that holds these numbers"""
    pools: bool = False
    """whether the files of sentence-transformers beside it say how its embeddings are pooled"""
    dropped: dict[str, str] = field(default_factory=dict)
    """regular expression of tensor names that are left out -> why"""

    @property
    def is_compared(self) -> bool:
        """Tell whether one of its classes was compared; where none was, the rules are those of one that was."""
        return not self.compared.isdisjoint(self.hf_classes)

    def fill_in(self, config: ModelConfig) -> ModelConfig:
        """Return the config with all that the family fills in."""
        return config.filled_in(self.class_defaults, self.aliases, self.derived)
