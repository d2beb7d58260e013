"""The lengths that shapes in rules are made of, as the config implies them."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from toolkit.checkpoint.model_config import ModelConfig


@dataclass(frozen=True)
class Dimension:
    """A length that the config implies, and the keys that imply it."""

    length: int
    key: str


def head_dim(config: ModelConfig) -> int:
    """Return the length of an attention head: the config's own, or hidden size / heads."""
    if isinstance(config.get("head_dim"), int):
        return config.integer("head_dim")
    return config.integer("hidden_size") // config.integer("num_attention_heads")


def dimension(expression: str, config: ModelConfig) -> Dimension:
    """Return the length that an expression means: a name below, a key of the config, a number, or sums of products.

    `2*ff` are two lengths of the MLP, `qk_nope_head_dim+v_head_dim` two keys added.
    """
    if expression in _NAMED:
        return _NAMED[expression](config)
    terms = (math.prod(_factor(name, config) for name in term.split("*")) for term in expression.split("+"))
    return Dimension(sum(terms), expression)


def _factor(name: str, config: ModelConfig) -> int:
    if name.isdecimal():
        return int(name)
    return _NAMED[name](config).length if name in _NAMED else config.integer(name)


def _key(key: str) -> Callable[[ModelConfig], Dimension]:
    return lambda config: Dimension(config.integer(key), key)


def _head(config: ModelConfig) -> Dimension:
    key = "head_dim" if "head_dim" in config.values else "hidden_size / num_attention_heads"
    return Dimension(head_dim(config), key)


def _heads(key: str) -> Callable[[ModelConfig], Dimension]:
    def product(config: ModelConfig) -> Dimension:
        head = _head(config)
        return Dimension(config.integer(key) * head.length, f"{key} x {head.key}")

    return product


_NAMED: dict[str, Callable[[ModelConfig], Dimension]] = {
    "embd": _key("hidden_size"),
    "ff": _key("intermediate_size"),
    "expert_ff": _key("moe_intermediate_size"),
    "experts": _key("num_local_experts"),
    "head": _head,
    "q": _heads("num_attention_heads"),
    "kv": _heads("num_key_value_heads"),
    "vocab": lambda config: Dimension(config.integer("vocab_size"), "the rows of the embedding"),
}
