"""Perplexity as llama-perplexity measures it, so that the numbers can be compared with published ones.

The tokens are cut into windows of n_ctx. Every window starts on an empty memory, its first token is replaced by BOS if
the model wants one, and its second half is scored, so that each scored token has at least n_ctx / 2 of context.
Source: `perplexity()` in tools/perplexity/perplexity.cpp of llama.cpp (commit 0c1e570).
"""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

from toolkit.devices import physical_cores
from toolkit.errors import QualityError, TextError
from toolkit.runtime import Logits, Runtime

SMALLEST_WINDOW = 4
_BLOCK_BYTES = 16 << 20
Progress = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Perplexity:
    """exp(mean_nll) with its standard error, over `tokens` scored tokens in `chunks` windows of `n_ctx`."""

    perplexity: float
    standard_error: float
    tokens: int
    chunks: int
    n_ctx: int
    mean_nll: float
    chunk_nlls: tuple[float, ...]
    """mean negative log-likelihood of every window, in nats per token"""


@dataclass(frozen=True)
class Windows:
    """Tokens cut into windows of n_ctx, of which the positions from `first` on are scored."""

    tokens: Sequence[int]
    n_ctx: int
    count: int

    @property
    def first(self) -> int:
        """Return the first position whose logits are used; they predict the token after it."""
        return self.n_ctx // 2

    @property
    def scored(self) -> slice:
        """Return the positions whose logits are used; the last one predicts nothing in its window."""
        return slice(self.first, self.n_ctx - 1)

    def window(self, index: int, bos_token: int | None) -> list[int]:
        """Return the tokens of one window as the model gets them."""
        tokens = list(self.tokens[index * self.n_ctx : (index + 1) * self.n_ctx])
        return tokens if bos_token is None else [bos_token, *tokens[1:]]

    def describe(self, index: int) -> str:
        """Name a window as a person counts them."""
        return f"window {index + 1} of {self.count} (tokens {index * self.n_ctx:,} to {(index + 1) * self.n_ctx - 1:,})"


def cut_windows(tokens: Sequence[int], n_ctx: int, max_chunks: int | None = None) -> Windows:
    """Return the windows of a text.

    Raises TextError if there are fewer than two, which is too little to say anything.
    """
    if n_ctx < SMALLEST_WINDOW:
        raise TextError(f"a window of {n_ctx} tokens is too short to score; use at least {SMALLEST_WINDOW}")
    if len(tokens) < 2 * n_ctx:
        largest = len(tokens) // 2
        advice = f"the largest usable window is {largest:,}" if largest >= SMALLEST_WINDOW else "give a longer text"
        raise TextError(
            f"the text has {len(tokens):,} tokens, but a window of {n_ctx:,} needs {2 * n_ctx:,} (2 x n_ctx); {advice}"
        )
    count = len(tokens) // n_ctx
    return Windows(tokens, n_ctx, count if max_chunks is None else max(1, min(count, max_chunks)))


def measure_perplexity(
    runtime: Runtime,
    tokens: Sequence[int],
    n_ctx: int,
    max_chunks: int | None = None,
    progress: Progress | None = None,
) -> Perplexity:
    """Return the perplexity of tokens; `progress` gets (windows done, windows in all, perplexity so far).

    Raises TextError if the text is too short, QualityError at the first window whose logits are not finite.
    """
    windows = cut_windows(tokens, n_ctx, max_chunks)
    total = _Total()
    with ThreadPoolExecutor(physical_cores()) as pool:
        for index in range(windows.count):
            nlls = _window_nlls(runtime, windows, index, pool)
            if not numpy.isfinite(nlls).all():
                raise QualityError(
                    f"{windows.describe(index)}: the model's logits are not finite, so there is no perplexity; "
                    "a weight is NaN or infinite, or too large for the KV cache's type"
                )
            total.add(nlls)
            if progress is not None:
                progress(index + 1, windows.count, math.exp(total.mean))
    return total.result(windows)


class _Total:
    """Running sums in 64 bits."""

    def __init__(self) -> None:
        self._sum = self._sum_of_squares = 0.0
        self._count = 0
        self._chunk_nlls: list[float] = []

    def add(self, nlls: NDArray[numpy.float64]) -> None:
        self._sum += float(nlls.sum())
        self._sum_of_squares += float((nlls * nlls).sum())
        self._count += len(nlls)
        self._chunk_nlls.append(float(nlls.mean()))

    @property
    def mean(self) -> float:
        return self._sum / self._count

    def result(self, windows: Windows) -> Perplexity:
        perplexity = math.exp(self.mean)
        variance = self._sum_of_squares / self._count - self.mean**2
        error = math.sqrt(variance / (self._count - 1)) * perplexity if variance > 0 and self._count > 1 else 0.0
        return Perplexity(
            perplexity, error, self._count, windows.count, windows.n_ctx, self.mean, tuple(self._chunk_nlls)
        )


def _window_nlls(runtime: Runtime, windows: Windows, index: int, pool: Executor) -> NDArray[numpy.float64]:
    """Return float64 [scored]: the negative log-likelihood of every scored token of one window."""
    start = index * windows.n_ctx
    targets = numpy.asarray(windows.tokens[start : start + windows.n_ctx], numpy.int64)
    parts: list[NDArray[numpy.float64]] = []
    runtime.clear()
    for position, logits in runtime.evaluate_batches(windows.window(index, runtime.bos_token), windows.scored):
        parts.append(negative_log_likelihoods(logits, targets[position + 1 : position + 1 + len(logits)], pool))
    return numpy.concatenate(parts)


def negative_log_likelihoods(
    logits: Logits, targets: NDArray[numpy.int64], pool: Executor | None = None
) -> NDArray[numpy.float64]:
    """Return float64 [n]: -log softmax(logits)[target], for logits float32 [n, n_vocab] and targets [n].

    Exponentials are taken in 32 bits and added in 64, as llama-perplexity does; never more than a few MiB at once.
    """
    rows = max(1, _BLOCK_BYTES // (4 * logits.shape[1]))
    spans = [slice(start, start + rows) for start in range(0, len(logits), rows)]
    blocks = [(logits[span], targets[span]) for span in spans]
    scored = pool.map(_score, blocks) if pool is not None else map(_score, blocks)
    return numpy.concatenate(list(scored))


def _score(block: tuple[Logits, NDArray[numpy.int64]]) -> NDArray[numpy.float64]:
    logits, targets = block
    # The error state belongs to the thread; what is not finite is the caller's to report.
    with numpy.errstate(all="ignore"):
        shifted = logits - logits.max(axis=1, keepdims=True)
        picked = shifted[numpy.arange(len(targets)), targets].astype(numpy.float64)
        numpy.exp(shifted, out=shifted)
        result: NDArray[numpy.float64] = numpy.log(shifted.sum(axis=1, dtype=numpy.float64)) - picked
    return result
