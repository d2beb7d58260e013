"""What a quantized model may lose in each use case: thresholds up to which a quantity is good, and up to which noticeable.

They are read from a TOML file, in which nothing unknown is accepted.
"""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from toolkit.errors import InputError

GENERAL = "general"
"""The kind of the default text."""
JUDGEMENT = "judgement"
"""The source of thresholds that are our own."""
_MAX_BYTES = 1 << 20


class Level(StrEnum):
    """The verdicts, best first."""

    GOOD = "good"
    NOTICEABLE = "noticeable"
    NOT_ADVISED = "not advised"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Source:
    """Where a threshold comes from."""

    title: str
    link: str


@dataclass(frozen=True)
class Quantity:
    """A number that thresholds are set for; `share` is written as a percentage."""

    name: str
    title: str
    higher_is_better: bool = False
    share: bool = False
    around_one: bool = False

    def format(self, value: float) -> str:
        """Return the number as a person reads it."""
        if self.share:
            return f"{100 * value:.1f} %"
        return f"{value:.3f}" if self.around_one else f"{value:.3g}"


QUANTITIES = {
    quantity.name: quantity
    for quantity in (
        Quantity("mean_kld", "mean KLD"),
        Quantity("p999_kld", "99.9 % KLD"),
        Quantity("same_top", "same top token", higher_is_better=True, share=True),
        Quantity("perplexity_ratio", "perplexity ratio", around_one=True),
    )
}
_USE_KEYS = ("title", "text", "why", "least_chunk_tokens", *QUANTITIES)
_THRESHOLD_KEYS = ("good", "noticeable", "source", "note")


@dataclass(frozen=True)
class Threshold:
    """Up to where (or from where, if higher is better) a quantity is good, and up to where it is noticeable."""

    quantity: Quantity
    good: float
    noticeable: float
    source: Source | None
    """None where it is our own judgement"""
    note: str = ""

    def level(self, value: float) -> Level:
        """Return the level of a value."""
        sign = -1 if self.quantity.higher_is_better else 1
        if sign * value <= sign * self.good:
            return Level.GOOD
        return Level.NOTICEABLE if sign * value <= sign * self.noticeable else Level.NOT_ADVISED


@dataclass(frozen=True)
class UseCase:
    """What a model is used for, and what it may lose."""

    name: str
    title: str
    text: str
    """the kind of text that it is measured on"""
    why: str
    thresholds: tuple[Threshold, ...]
    least_chunk_tokens: int = 0
    """tokens that a chunk must have at least"""


@dataclass(frozen=True)
class VerdictRules:
    """All use cases; `advice` is the source for advising the smallest good file rather than the one that diverges least."""

    use_cases: tuple[UseCase, ...]
    advice: Source | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """Return the kinds of text that some use case asks for."""
        return tuple(dict.fromkeys(use.text for use in self.use_cases))

    def least_chunk_tokens(self, kind: str) -> int:
        """Return the tokens that chunks of a kind of text must have."""
        return max((use.least_chunk_tokens for use in self.use_cases if use.text == kind), default=0)


def read_verdict_rules(path: Path | None = None) -> VerdictRules:
    """Return the use cases and their thresholds in a file, or in the toolkit's own.

    Raises InputError that names file and key if the file cannot be read or has something unknown in it.
    """
    path = path or Path(__file__).with_name("verdicts.toml")
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES + 1)
        if len(text) > _MAX_BYTES:
            raise InputError(f"{path}: larger than {_MAX_BYTES} bytes, so it is not a file of thresholds")
        document = tomllib.loads(text.decode("utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path}: the thresholds cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid TOML: {error}") from error
    return _Document(path).rules(document)


class _Document:
    """A file while it is checked; every message names the table and the key."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sources: dict[str, Source] = {}

    def rules(self, document: dict[str, Any]) -> VerdictRules:
        self._refuse_unknown(document, ("sources", "advice", "uses"), "the file")
        for name, table in self._tables(document.get("sources", {}), "sources").items():
            where = f"[sources.{name}]"
            self._refuse_unknown(table, ("title", "link"), where)
            self._sources[name] = Source(self._text(table, "title", where), self._text(table, "link", where))
        uses = self._tables(document.get("uses"), "uses")
        if not uses:
            raise self._error("[uses]", "there is no use case; name one as [uses.chat]")
        return VerdictRules(tuple(self._use(name, table) for name, table in uses.items()), self._advice(document))

    def _advice(self, document: dict[str, Any]) -> Source | None:
        if "advice" not in document:
            return None
        table = self._tables({"advice": document["advice"]}, "")["advice"]
        self._refuse_unknown(table, ("source",), "[advice]")
        return self._source(table, "[advice]")

    def _use(self, name: str, table: dict[str, Any]) -> UseCase:
        where = f"[uses.{name}]"
        self._refuse_unknown(table, _USE_KEYS, where)
        thresholds = tuple(
            self._threshold(key, table[key], f"{where} {key}") for key in QUANTITIES if table.get(key) is not None
        )
        if not thresholds:
            raise self._error(where, f"no threshold; set one of {', '.join(QUANTITIES)}")
        least = table.get("least_chunk_tokens", 0)
        if not isinstance(least, int) or isinstance(least, bool) or least < 0:
            raise self._error(where, f"least_chunk_tokens = {least!r} is not a number of tokens")
        title, text, why = (self._text(table, key, where) for key in ("title", "text", "why"))
        return UseCase(name, title, text, why, thresholds, least)

    def _threshold(self, name: str, table: object, where: str) -> Threshold:
        if not isinstance(table, dict):
            raise self._error(where, "expected { good = ..., noticeable = ..., source = ... }")
        self._refuse_unknown(table, _THRESHOLD_KEYS, where)
        good, noticeable = self._number(table, "good", where), self._number(table, "noticeable", where)
        quantity = QUANTITIES[name]
        if (good < noticeable) if quantity.higher_is_better else (good > noticeable):
            raise self._error(where, f"good ({good:g}) has to be better than noticeable ({noticeable:g})")
        note = self._text(table, "note", where) if "note" in table else ""
        return Threshold(quantity, good, noticeable, self._source(table, where), note)

    def _source(self, table: Mapping[str, Any], where: str) -> Source | None:
        name = self._text(table, "source", where)
        if name != JUDGEMENT and name not in self._sources:
            known = ", ".join([JUDGEMENT, *self._sources])
            raise self._error(where, f"there is no [sources.{name}]; the file has {known}")
        return self._sources.get(name)

    def _tables(self, value: object, name: str) -> dict[str, dict[str, Any]]:
        if not isinstance(value, dict) or not all(isinstance(table, dict) for table in value.values()):
            raise self._error(f"[{name}]", "expected tables")
        return value

    def _text(self, table: Mapping[str, Any], key: str, where: str) -> str:
        value = table.get(key)
        if not isinstance(value, str) or not value.strip():
            raise self._error(where, f"{key!r} is missing, or is not text")
        return value

    def _number(self, table: Mapping[str, Any], key: str, where: str) -> float:
        value = table.get(key)
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise self._error(where, f"{key!r} is missing, or is not a number")
        return float(value)

    def _refuse_unknown(self, table: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
        unknown = next((key for key in table if key not in known), None)
        if unknown is not None:
            raise self._error(where, f"unknown key {unknown!r}; known are {', '.join(known)}")

    def _error(self, where: str, message: str) -> InputError:
        return InputError(f"{self._path}, {where}: {message}")
