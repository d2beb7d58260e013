"""A config whose values are read by kind: every read says which key is wrong, what it is and what was expected."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from toolkit.errors import ConfigError
from toolkit.gguf.format import MAX_INTEGER, is_number, shortened

_MOST = {
    "num_hidden_layers": 512, "num_decoder_layers": 512, "num_local_experts": 1024, "num_labels": 1 << 20,
    "hidden_size": 1 << 20,
}  # fmt: skip
"""What lists and loops are as long as. llama.cpp has room for 512 blocks and 1,024 experts (src/llama-hparams.h)."""
_MOST_HEADS = 2048
"""Heads, and weights in a head, four times the most in use: orders of rows are lists of heads times their length."""
Derived = Callable[["ModelConfig"], Any]
"""a value that follows from others"""


@dataclass(frozen=True)
class ModelConfig:
    """A normalised config: no nulls, one spelling, the text part of a multimodal model at the top.

    What config.json is silent about is filled in, in this order: from the family's own spelling of the key, from what the
    class of transformers fills in, from other values. Reads name the key, what it is and what was expected.
    """

    values: Mapping[str, Any]
    class_defaults: Mapping[str, Any] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    """key -> the spelling of it in this family; `group.key` lies in an object"""
    derived: Mapping[str, Derived] = field(default_factory=dict)
    within: str = ""
    """what follows a key in messages: ` of attn_config` for those in that object"""

    def __getitem__(self, key: str) -> Any:
        """Return a value of any kind.

        Raises ConfigError if there is none.
        """
        value = self.get(key)
        if value is None:
            written_by = self.values.get("transformers_version")
            version = f" (written by transformers {written_by})" if written_by else ""
            name = self.aliases.get(key, key)
            raise ConfigError(f"config.json has no {name}{self.within}, and there is no default for it{version}")
        return value

    def get(self, key: str, otherwise: Any = None) -> Any:
        """Return a value of any kind, `otherwise` where there is none."""
        value = self.values.get(key)
        if value is None and key in self.aliases:
            group, _, inner = self.aliases[key].rpartition(".")
            value = self.section(group).get(inner) if group else self.get(inner)
        if value is None:
            value = self.class_defaults.get(key)
        if value is None and key in self.derived:
            value = self.derived[key](self)
        return otherwise if value is None else value

    def has(self, key: str) -> bool:
        """Tell whether a value is there, or is filled in."""
        return self.get(key) is not None

    def integer(self, key: str, otherwise: int | None = None, *, least: int = 1) -> int:
        """Return a whole number, no smaller than `least`, and no larger than any model has.

        Raises ConfigError if it is something else, or absent.
        """
        value = self._checked(key, otherwise, partial(_is_integer, least=least), _expected(least))
        most = _MOST_HEADS if "head" in key else _MOST.get(key, value)
        if value > most:
            raise ConfigError(f"config.json: {key}{self.within} is {value}, but no model has more than {most}")
        return int(value)

    def number(self, key: str, otherwise: float | None = None) -> float:
        """Return a number that a 32-bit float can hold.

        Raises ConfigError if it is something else, or absent.
        """
        if isinstance(self.get(key), list):
            raise ConfigError(
                f"config.json: per-layer {key}{self.within} is not supported for {self.get('model_type', 'this model')}"
            )
        return float(self._checked(key, otherwise, is_number, "a number"))

    def positive_number(self, key: str, otherwise: float | None = None) -> float:
        """Return a number above 0.

        Raises ConfigError if it is something else, or absent.
        """
        value = self.number(key, otherwise)
        if value <= 0:
            raise ConfigError(f"config.json: {key}{self.within} is {value:g}, expected a number above 0")
        return value

    def flag(self, key: str, otherwise: bool | None = None) -> bool:
        """Return whether something is so; 0 and 1 are understood.

        Raises ConfigError if it is something else, or absent.
        """
        return bool(self._checked(key, otherwise, _is_flag, "true or false"))

    def text(self, key: str, otherwise: str | None = None) -> str:
        """Return a text.

        Raises ConfigError if it is something else, or absent.
        """
        return str(self._checked(key, otherwise, _is_text, "a text"))

    def choice(self, key: str, allowed: Collection[str], otherwise: str | None = None) -> str:
        """Return a text that is one of those allowed.

        Raises ConfigError if it is something else, or absent.
        """
        expected = " or ".join(repr(name) for name in allowed)
        return str(self._checked(key, otherwise, lambda value: _is_text(value) and value in allowed, expected))

    def integer_list(self, key: str, otherwise: list[int] | None = None) -> list[int]:
        """Return a list of whole numbers from 0 on.

        Raises ConfigError if it is something else, or absent.
        """
        return self._list(key, otherwise, partial(_is_integer, least=0), "a list of whole numbers")

    def number_list(self, key: str, otherwise: list[float] | None = None, *, length: int | None = None) -> list[float]:
        """Return a list of numbers, of a certain length if one is given.

        Raises ConfigError if it is something else, or absent.
        """
        expected = "a list of numbers" if length is None else f"a list of {length} numbers"
        numbers = self._list(key, otherwise, is_number, expected)
        if length not in (None, len(numbers)):
            raise ConfigError(f"config.json: {key}{self.within} lists {len(numbers)} numbers, expected {length}")
        return numbers

    def flag_list(self, key: str, otherwise: list[bool] | None = None) -> list[bool]:
        """Return a list of what is so and what not.

        Raises ConfigError if it is something else, or absent.
        """
        return [bool(flag) for flag in self._list(key, otherwise, _is_flag, "a list of true and false, or 1 and 0")]

    def text_list(self, key: str, otherwise: list[str] | None = None) -> list[str]:
        """Return a list of texts.

        Raises ConfigError if it is something else, or absent.
        """
        return self._list(key, otherwise, _is_text, "a list of texts")

    def section(self, key: str) -> "ModelConfig":
        """Return an object inside, empty if it is absent; its keys are read as those of the whole are.

        Raises ConfigError if it is something else.
        """
        return self._within(key, self._checked(key, {}, _is_object, "an object"))

    def section_list(self, key: str) -> list["ModelConfig"]:
        """Return a list of objects, each read as the whole is.

        Raises ConfigError if it is something else, or absent.
        """
        return [self._within(key, inside) for inside in self._list(key, None, _is_object, "a list of objects")]

    def _within(self, key: str, inside: dict[str, Any]) -> "ModelConfig":
        present = {name: value for name, value in inside.items() if value is not None}
        return ModelConfig(present, within=f" of {key}{self.within}")

    def _list(self, key: str, otherwise: list[Any] | None, fits: Callable[[Any], bool], expected: str) -> list[Any]:
        return list(
            self._checked(
                key, otherwise, lambda value: isinstance(value, list) and all(fits(item) for item in value), expected
            )
        )

    def _checked(self, key: str, otherwise: Any, fits: Callable[[Any], bool], expected: str) -> Any:
        value = self.get(key, otherwise)
        if value is None:
            return self[key]
        if not fits(value):
            raise ConfigError(f"config.json: {key}{self.within} is {shortened(value)}, expected {expected}")
        return value

    def filled_in(
        self, class_defaults: Mapping[str, Any], aliases: Mapping[str, str], derived: Mapping[str, Derived]
    ) -> "ModelConfig":
        """Return the same config with what a family fills in."""
        return replace(self, class_defaults=class_defaults, aliases=aliases, derived=derived)

    def with_values(self, **values: Any) -> "ModelConfig":
        """Return the same config with some values in place of its own."""
        return replace(self, values={**self.values, **values})


def _expected(least: int) -> str:
    return "a positive integer" if least == 1 else f"a whole number from {least} on"


def _is_integer(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= MAX_INTEGER


def _is_flag(value: object) -> bool:
    return isinstance(value, int) and value in (0, 1)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_object(value: object) -> bool:
    return isinstance(value, dict)
