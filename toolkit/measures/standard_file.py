"""Read the thresholds of verdicts from a TOML file, and refuse what is not understood."""

import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toolkit.errors import InputError
from toolkit.measures.standard import QUANTITIES, Source, Standard, Threshold, Use

JUDGEMENT = "judgement"
"""As a source: our own."""
_MAX_BYTES = 1 << 20
_USE_KEYS = ("title", "text", "why", "least_window", *QUANTITIES)
_THRESHOLD_KEYS = ("good", "noticeable", "source", "note")


def read_standard(path: Path | None = None) -> Standard:
    """Return the uses and their thresholds in a file, or in the toolkit's own.

    Raises InputError that names file and key if the file cannot be read or says something that is not understood.
    """
    path = path or Path(__file__).with_name("verdicts.toml")
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES + 1)
        if len(text) > _MAX_BYTES:
            raise InputError(f"{path}: larger than {_MAX_BYTES} bytes, so no file of thresholds")
        document = tomllib.loads(text.decode("utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path}: the thresholds cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid TOML: {error}") from error
    return _Document(path).standard(document)


class _Document:
    """A file while it is checked; every message names the table and the key."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sources: dict[str, Source] = {}

    def standard(self, document: dict[str, Any]) -> Standard:
        self._refuse_unknown(document, ("sources", "advice", "uses"), "the file")
        for name, table in self._tables(document.get("sources", {}), "sources").items():
            where = f"[sources.{name}]"
            self._refuse_unknown(table, ("title", "link"), where)
            self._sources[name] = Source(self._text(table, "title", where), self._text(table, "link", where))
        uses = self._tables(document.get("uses"), "uses")
        if not uses:
            raise self._error("[uses]", "there is no use; name one as [uses.chat]")
        return Standard(tuple(self._use(name, table) for name, table in uses.items()), self._advice(document))

    def _advice(self, document: dict[str, Any]) -> Source | None:
        if "advice" not in document:
            return None
        table = self._tables({"advice": document["advice"]}, "")["advice"]
        self._refuse_unknown(table, ("source",), "[advice]")
        return self._source(table, "[advice]")

    def _use(self, name: str, table: dict[str, Any]) -> Use:
        where = f"[uses.{name}]"
        self._refuse_unknown(table, _USE_KEYS, where)
        thresholds = tuple(
            self._threshold(key, table[key], f"{where} {key}") for key in QUANTITIES if table.get(key) is not None
        )
        if not thresholds:
            raise self._error(where, f"no threshold; set one of {', '.join(QUANTITIES)}")
        least = table.get("least_window", 0)
        if not isinstance(least, int) or isinstance(least, bool) or least < 0:
            raise self._error(where, f"least_window = {least!r} is no number of tokens")
        title, text, why = (self._text(table, key, where) for key in ("title", "text", "why"))
        return Use(name, title, text, why, thresholds, least)

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
            raise self._error(where, f"{key!r} is missing, or no text")
        return value

    def _number(self, table: Mapping[str, Any], key: str, where: str) -> float:
        value = table.get(key)
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise self._error(where, f"{key!r} is missing, or no number")
        return float(value)

    def _refuse_unknown(self, table: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
        unknown = next((key for key in table if key not in known), None)
        if unknown is not None:
            raise self._error(where, f"unknown key {unknown!r}; known are {', '.join(known)}")

    def _error(self, where: str, message: str) -> InputError:
        return InputError(f"{self._path}, {where}: {message}")
