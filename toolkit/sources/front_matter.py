"""The YAML at the head of a model card, read as text: no mistake in a card keeps a model from being converted.

Every scalar stays text: `no` is not a truth value, 3.10 not a number and 2024-02-30 not a date. Tags are ignored, and size
and depth are bounded.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CARD = "README.md"
MAX_CARD_BYTES = 1 << 20
"""Three times the longest front matter in use: embedders list the results of hundreds of tasks there."""
MAX_DEPTH = 32
_FENCE = "---"
_NULLS = ("", "~", "null", "Null", "NULL")

Value = str | list[Any] | dict[str, Any] | None


class _UnreadableError(Exception):
    """The front matter is not what a card may hold; says why."""


@dataclass(frozen=True)
class FrontMatter:
    """The entries of a model card, as texts, lists and dictionaries of them; those without a value are left out."""

    entries: dict[str, Value] = field(default_factory=dict)
    problem: str = ""
    """why nothing could be read, in one line; empty where there was nothing to read, or all was read"""


def card_text(directory: Path) -> str:
    """Return the first part of a model card, empty if there is none; what is not UTF-8 is kept as lone surrogates."""
    try:
        with (directory / CARD).open("rb") as file:
            return file.read(MAX_CARD_BYTES).decode("utf-8-sig", "surrogateescape")
    except OSError:
        return ""


def read_front_matter(directory: Path) -> FrontMatter:
    """Read the YAML between the first two fences of a directory's model card; no content of it is an error."""
    import yaml  # type: ignore[import-untyped]  # it comes without types

    lines = card_text(directory).splitlines()
    if not lines or lines[0] != _FENCE:
        return FrontMatter()
    try:
        return FrontMatter(_entries(_fenced(lines[1:])))
    except _UnreadableError as error:
        return FrontMatter(problem=str(error))
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # Beside its own errors the parser lets those of Python through, as of an escape beyond Unicode.
        return FrontMatter(problem=_reason(error))


def _reason(error: Exception) -> str:
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is not None and problem:
        return f"line {mark.line + 2}: {problem}"  # the fence is line 1
    return " ".join(str(error).split())[:100]


def _fenced(lines: list[str]) -> str:
    if _FENCE not in lines:
        raise _UnreadableError(f"it does not end with {_FENCE}")
    # a common mistake, which the readers of other tools forgive too
    return "\n".join(lines[: lines.index(_FENCE)]).replace("\t", "  ") + "\n"


def _entries(text: str) -> dict[str, Value]:
    import yaml

    reading = _Reading(yaml.parse(text, Loader=yaml.BaseLoader))
    value = reading.document()
    if not isinstance(value, dict | None):
        raise _UnreadableError("it has no entries of the form `key: value`")
    return {key: entry for key, entry in (value or {}).items() if entry is not None}


class _Reading:
    """The values that a parser's events spell, to a bounded depth."""

    def __init__(self, events: Iterator[Any]) -> None:
        self._events = events
        self._anchors: dict[str, Value] = {}

    def document(self) -> Value:
        """Return the first document, None if the text holds none."""
        for event in self._events:
            if type(event).__name__ not in ("StreamStartEvent", "DocumentStartEvent"):
                return None if type(event).__name__ == "StreamEndEvent" else self._value(event, 0)
        return None

    def _value(self, event: Any, depth: int) -> Value:
        if depth > MAX_DEPTH:
            raise _UnreadableError(f"it is nested more than {MAX_DEPTH} deep")
        match type(event).__name__:
            case "AliasEvent":
                return self._anchors.get(event.anchor)
            case "ScalarEvent":
                value: Value = _text(event)
            case "SequenceStartEvent":
                value = [self._value(item, depth + 1) for item in self._until("SequenceEndEvent")]
            case _:
                value = dict(self._pairs(depth + 1))
        if event.anchor is not None:
            self._anchors[event.anchor] = value
        return value

    def _pairs(self, depth: int) -> Iterator[tuple[str, Value]]:
        for event in self._until("MappingEndEvent"):
            key = self._value(event, depth)
            value = self._value(next(self._events), depth)
            if isinstance(key, str):
                yield key, value

    def _until(self, end: str) -> Iterator[Any]:
        for event in self._events:
            if type(event).__name__ == end:
                return
            yield event


def _text(event: Any) -> str | None:
    if event.style is None and event.value in _NULLS:
        return None
    text: str = event.value
    text.encode()  # an escape may spell a lone surrogate, which no file can hold
    return text
