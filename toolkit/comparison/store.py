"""Measurements of a comparison kept on disk, so that a run that was stopped goes on where it was.

A measurement is kept under all that it depends on: the contents of the file and of its base (every byte of the weights
counts, see `toolkit.machine.disk_cache`), the text, the chunks, the settings of the run, and the build of llama.cpp.
"""

from dataclasses import asdict, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from toolkit.comparison.rows import Quality
from toolkit.llama.offload_build import llama_build
from toolkit.machine.disk_cache import DiskCache
from toolkit.machine.gpus import gpu_names
from toolkit.measures.token_rate import TokenRate

_FORMAT = 3
_MAX_WHOLE = 1 << 53
Parsed = TypeVar("Parsed")


class ComparisonStore:
    """A folder of measurements; with `fresh` nothing is taken from it, but what is measured is kept."""

    def __init__(self, folder: Path | None, *, fresh: bool = False) -> None:
        self._kept = DiskCache.below(folder, "comparisons")
        self._fresh = fresh
        self.reused = 0
        """how often something was found"""
        self.unusable = 0
        """how often something was found that is no measurement"""

    def quality(self, *key: Any) -> Quality | None:
        """Return a kept quality, None if there is none."""
        return self._parsed(("quality", *key), Quality)

    def keep_quality(self, quality: Quality, *key: Any) -> None:
        """Keep a quality under everything that it depends on."""
        self._kept.put(_whole(("quality", *key)), asdict(quality))

    def rates(self, *key: Any) -> TokenRate | None:
        """Return kept rates, None if there are none."""
        return self._parsed(("rates", *key), TokenRate)

    def keep_rates(self, rates: TokenRate, *key: Any) -> None:
        """Keep rates under everything that they depend on."""
        self._kept.put(_whole(("rates", *key)), asdict(rates))

    def _parsed(self, key: tuple[Any, ...], kind: type[Parsed]) -> Parsed | None:
        document = None if self._fresh else self._kept.get(_whole(key))
        if document is None:
            return None
        try:
            measurement: Parsed = typed(kind, document)
        except TypeError:
            self.unusable += 1
            return None
        self.reused += 1
        return measurement


def _whole(key: tuple[Any, ...]) -> list[Any]:
    return [_FORMAT, llama_build(), gpu_names(), *key]


def typed(kind: Any, value: Any) -> Any:
    """Return a value that JSON kept as the type that it was: a dataclass, a tuple of one type, a text or a number.

    Raises TypeError if it is of another type.
    """
    if get_origin(kind) in (UnionType, Union):
        return (
            None if value is None else typed(next(member for member in get_args(kind) if member is not NoneType), value)
        )
    if get_origin(kind) is tuple and isinstance(value, list | tuple):
        return tuple(typed(get_args(kind)[0], item) for item in value)
    if is_dataclass(kind) and isinstance(value, dict):
        hints = get_type_hints(kind)
        return kind(**{name: typed(hints.get(name, NoneType), item) for name, item in value.items()})  # type: ignore[operator]
    if kind is float and type(value) is int and abs(value) <= _MAX_WHOLE:
        return value  # a float that was set to a whole number
    if type(value) is not kind:
        raise TypeError(f"{type(value).__name__} in place of {kind}")
    return value
