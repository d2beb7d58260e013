"""Measurements of a comparison kept on disk, so that a run that was stopped goes on where it was.

A measurement is kept under all that it depends on: the contents of the file and of its base (every byte of the weights
counts, see `toolkit.machine.content_digest`), the text, the windows, the settings of the run, and the build of llama.cpp.
"""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from toolkit.comparison.rows import Loss, Quality, TextKey
from toolkit.llama.offload_build import llama_build
from toolkit.machine.disk_cache import DiskCache
from toolkit.machine.gpus import gpu_names
from toolkit.measures.divergence_statistics import ChunkScores, Estimate
from toolkit.measures.paired import Interval
from toolkit.measures.token_rate import TokenRate

_FORMAT = 1
Parsed = TypeVar("Parsed")


class ComparisonStore:
    """A folder of measurements; with `fresh` nothing is taken from it, but what is measured is kept."""

    def __init__(self, folder: Path | None, *, fresh: bool = False) -> None:
        self._kept = DiskCache.below(folder, "comparisons")
        self._fresh = fresh
        self.reused = 0
        """how often something was found"""

    def quality(self, *key: Any) -> Quality | None:
        """Return a kept quality, None if there is none."""
        return self._parsed(("quality", *key), _quality)

    def keep_quality(self, quality: Quality, *key: Any) -> None:
        """Keep a quality under everything that it depends on."""
        self._kept.put(_whole(("quality", *key)), asdict(quality))

    def rates(self, *key: Any) -> TokenRate | None:
        """Return kept rates, None if there are none."""
        return self._parsed(("rates", *key), lambda document: TokenRate(**document))

    def keep_rates(self, rates: TokenRate, *key: Any) -> None:
        """Keep rates under everything that they depend on."""
        self._kept.put(_whole(("rates", *key)), asdict(rates))

    def _parsed(self, key: tuple[Any, ...], parse: Callable[[dict[str, Any]], Parsed]) -> Parsed | None:
        document = None if self._fresh else self._kept.get(_whole(key))
        try:
            found = None if document is None else parse(document)
        except (ValueError, TypeError, KeyError):
            return None
        self.reused += found is not None
        return found


def _whole(key: tuple[Any, ...]) -> list[Any]:
    return [_FORMAT, llama_build(), gpu_names(), *key]


def _quality(document: dict[str, Any]) -> Quality:
    loss = document.pop("loss")
    key, perplexity = TextKey(**document.pop("key")), Estimate(**document.pop("perplexity"))
    return Quality(key=key, perplexity=perplexity, loss=None if loss is None else _loss(loss), **document)


def _loss(document: dict[str, Any]) -> Loss:
    parsed: dict[str, Any] = {name: Estimate(**document[name]) for name in ("mean", "same_top", "log_ratio")}
    parsed["p999"] = Interval(**document["p999"])
    parsed["per_window"] = tuple(ChunkScores(**window) for window in document["per_window"])
    return Loss(**document | parsed)
