"""Perplexity as llama-perplexity measures it, so that the numbers can be compared with published ones.

The tokens are cut into windows of n_ctx. Every window starts on an empty memory, its first token is replaced by BOS if
the model wants one, and its second half is scored, so that each scored token has at least n_ctx / 2 of context. As many
windows as a runtime has sequences are evaluated side by side. With a stride, windows overlap: each begins `stride` tokens
after the one before, keeps its first token, and is scored on its last `stride` tokens.
Source: `perplexity()` and `perplexity_v2()` in tools/perplexity/perplexity.cpp of llama.cpp (commit 0c1e570).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

from toolkit.errors import QualityError, TextError
from toolkit.llama.evaluation import Logits, Runtime
from toolkit.machine.host import physical_cores

SMALLEST_WINDOW = 4
_BLOCK_BYTES = 2 << 20
_BATCH_TOKENS = 2048
_MOST_SEQUENCES = 256
_CONTEXT_STEP = 256
Progress = Callable[[int, int, float], None]
Keep = Callable[[int, int, Logits], None]
"""gets the number of a window, a row among its scored ones, and the logits [n, n_vocab] from there on"""


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
    stride: int | None = None
    """how far one window begins after the other, where they overlap"""

    @property
    def first(self) -> int:
        """Return the first position whose logits are used; they predict the token after it."""
        return self.n_ctx // 2 if self.stride is None else self.n_ctx - 1 - self.stride

    @property
    def scored(self) -> slice:
        """Return the positions whose logits are used; the last one predicts nothing in its window."""
        return slice(self.first, self.n_ctx - 1)

    def start(self, index: int) -> int:
        """Return the number of a window's first token."""
        return index * (self.n_ctx if self.stride is None else self.stride)

    def window(self, index: int, bos_token: int | None) -> list[int]:
        """Return the tokens of one window as the model gets them."""
        tokens = list(self.tokens[self.start(index) : self.start(index) + self.n_ctx])
        return tokens if bos_token is None or self.stride is not None else [bos_token, *tokens[1:]]

    def targets(self, index: int, position: int, count: int) -> NDArray[numpy.int64]:
        """Return the tokens [count] that the logits from a position of a window on should predict."""
        first = self.start(index) + position + 1
        return numpy.asarray(self.tokens[first : first + count], numpy.int64)

    def groups(self, size: int, order: Sequence[int] | None = None) -> Iterator[Sequence[int]]:
        """Yield the windows to be evaluated side by side: at most `size`, in the order given."""
        order = order if order is not None else range(self.count)
        return (order[start : start + size] for start in range(0, len(order), size))

    def describe(self, index: int) -> str:
        """Name a window as a person counts them."""
        start = self.start(index)
        return f"window {index + 1} of {self.count} (tokens {start:,} to {start + self.n_ctx - 1:,})"


def cut_windows(tokens: Sequence[int], n_ctx: int, max_chunks: int | None = None, stride: int | None = None) -> Windows:
    """Return the windows of a text.

    Raises TextError if there are fewer than two, which is too little to say anything, or a stride leaves gaps.
    """
    if n_ctx < SMALLEST_WINDOW:
        raise TextError(f"a window of {n_ctx} tokens is too short to score; use at least {SMALLEST_WINDOW}")
    if len(tokens) < 2 * n_ctx:
        largest = len(tokens) // 2
        advice = f"the largest usable window is {largest:,}" if largest >= SMALLEST_WINDOW else "give a longer text"
        raise TextError(
            f"the text has {len(tokens):,} tokens, but a window of {n_ctx:,} needs {2 * n_ctx:,} (2 x n_ctx); {advice}"
        )
    if stride is not None and not 0 < stride < n_ctx:
        raise TextError(f"a stride of {stride:,} does not fit in a window of {n_ctx:,}; use less than that")
    count = len(tokens) // n_ctx if stride is None else -(-(len(tokens) - n_ctx) // stride)
    return Windows(tokens, n_ctx, count if max_chunks is None else max(1, min(count, max_chunks)), stride)


def windows_together(n_ctx: int, max_chunks: int | None = None) -> int:
    """Return how many windows llama-perplexity evaluates side by side: they fill its batch of 2048 tokens."""
    together = max(1, min(_BATCH_TOKENS // n_ctx, _MOST_SEQUENCES))
    return together if max_chunks is None else min(together, max_chunks)


def strided_window(n_ctx: int, stride: int) -> int:
    """Return the window that llama-perplexity takes for `-c n_ctx -b n_ctx --ppl-stride stride`.

    Its context is longer by half a stride, which llama.cpp rounds up, and all of it becomes the window.
    """
    return -(-(n_ctx + stride // 2) // _CONTEXT_STEP) * _CONTEXT_STEP


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
    return measure_windows(runtime, cut_windows(tokens, n_ctx, max_chunks), progress)


def measure_windows(
    runtime: Runtime, windows: Windows, progress: Progress | None = None, keep: Keep | None = None
) -> Perplexity:
    """Return the perplexity of windows of text; `keep` gets all logits that are scored.

    Raises QualityError at the first window whose logits are not finite.
    """
    total = _Total()
    with ThreadPoolExecutor(physical_cores()) as pool:
        for group in windows.groups(runtime.n_parallel):
            for index, nlls in zip(group, _group_nlls(runtime, windows, group, _Sinks(pool, keep)), strict=True):
                if not numpy.isfinite(nlls).all():
                    raise QualityError(
                        f"{windows.describe(index)}: the model's logits are not finite, so there is no perplexity; "
                        "a weight is NaN or infinite, or too large for the KV cache's type"
                    )
                total.add(nlls)
                if progress is not None:
                    progress(total.chunks, windows.count, math.exp(total.mean))
    return total.result(windows)


@dataclass(frozen=True)
class _Sinks:
    """Where logits go: to threads that score them, and to who keeps them."""

    pool: Executor
    keep: Keep | None


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
    def chunks(self) -> int:
        return len(self._chunk_nlls)

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


def _group_nlls(
    runtime: Runtime, windows: Windows, group: Sequence[int], sinks: _Sinks
) -> list[NDArray[numpy.float64]]:
    """Return float64 [scored] for each window: the negative log-likelihoods of its scored tokens."""
    parts: list[list[NDArray[numpy.float64]]] = [[] for _ in group]
    for place, position, logits in evaluate_group(runtime, windows, group, windows.scored):
        index = group[place]
        if sinks.keep is not None:
            sinks.keep(index, position - windows.first, logits)
        targets = windows.targets(index, position, len(logits))
        parts[place].append(negative_log_likelihoods(logits, targets, sinks.pool))
    return [numpy.concatenate(part) for part in parts]


def evaluate_group(
    runtime: Runtime, windows: Windows, group: Sequence[int], logits_for: slice
) -> Iterator[tuple[int, int, Logits]]:
    """Evaluate windows side by side; yield (place in the group, position, logits) as `Runtime.evaluate_windows` does."""
    return runtime.evaluate_windows([windows.window(index, runtime.bos_token) for index in group], logits_for)


def row_spans(n_rows: int, n_vocab: int) -> list[slice]:
    """Cut rows of logits into blocks that stay in a processor's cache."""
    step = max(1, _BLOCK_BYTES // (4 * n_vocab))
    return [slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step)]


def negative_log_likelihoods(
    logits: Logits, targets: NDArray[numpy.int64], pool: Executor | None = None
) -> NDArray[numpy.float64]:
    """Return float64 [n]: -log softmax(logits)[target], for logits float32 [n, n_vocab] and targets [n].

    Exponentials are taken in 32 bits and added in 64, as llama-perplexity does; a few MiB at a time.
    """
    blocks = [(logits[span], targets[span]) for span in row_spans(*logits.shape)]
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
