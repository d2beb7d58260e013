"""Perplexity as llama-perplexity measures it, so that the numbers can be compared with published ones.

Source: `perplexity()` and `perplexity_v2()` in tools/perplexity/perplexity.cpp of llama.cpp (commit 0c1e570).
"""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

from toolkit.errors import QualityError
from toolkit.llama.evaluation import Logits, Runtime
from toolkit.machine.host import physical_cores
from toolkit.measures.chunks import Chunks, cut_chunks, evaluate_group
from toolkit.measures.softmax import negative_log_likelihoods
from toolkit.reporter import SILENT_TASK, Task

OnLogits = Callable[[int, int, Logits], None]
"""gets the number of a chunk, a row among its scored ones, and the logits [n, n_vocab] from there on"""


@dataclass(frozen=True)
class Perplexity:
    """exp(mean_nll) with its standard error, over `tokens` scored tokens in `chunks` chunks of `n_ctx_seq`."""

    perplexity: float
    standard_error: float
    tokens: int
    chunks: int
    n_ctx_seq: int
    mean_nll: float
    chunk_nlls: tuple[float, ...]
    """mean negative log-likelihood of every chunk, in nats per token"""


def measure_perplexity(
    runtime: Runtime, tokens: Sequence[int], n_ctx_seq: int, max_chunks: int | None = None, task: Task = SILENT_TASK
) -> Perplexity:
    """Return the perplexity of tokens; the task shows the chunks done and the perplexity so far.

    Raises TextError if the text is too short, QualityError at the first chunk whose logits are not finite.
    """
    return measure_chunks(runtime, cut_chunks(tokens, n_ctx_seq, max_chunks), task)


def measure_chunks(
    runtime: Runtime, chunks: Chunks, task: Task = SILENT_TASK, on_logits: OnLogits | None = None
) -> Perplexity:
    """Return the perplexity of chunks of text; `on_logits` gets all logits that are scored.

    Raises QualityError at the first chunk whose logits are not finite.
    """
    total = _Total()
    with ThreadPoolExecutor(physical_cores()) as pool:
        for group in chunks.groups(runtime.n_parallel):
            for index, nlls in zip(group, _group_nlls(runtime, chunks, group, pool, on_logits), strict=True):
                if not numpy.isfinite(nlls).all():
                    raise QualityError(
                        f"{chunks.describe(index)}: the model's logits are not finite, so there is no perplexity; "
                        "a weight is NaN or infinite, or too large for the KV cache's type"
                    )
                total.add(nlls)
                task.update(total.chunks, chunks.count, f"PPL {math.exp(total.mean):.4f}")
    return total.result(chunks)


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

    def result(self, chunks: Chunks) -> Perplexity:
        perplexity = math.exp(self.mean)
        variance = self._sum_of_squares / self._count - self.mean**2
        error = math.sqrt(variance / (self._count - 1)) * perplexity if variance > 0 and self._count > 1 else 0.0
        return Perplexity(
            perplexity, error, self._count, chunks.count, chunks.n_ctx_seq, self.mean, tuple(self._chunk_nlls)
        )


def _group_nlls(
    runtime: Runtime, chunks: Chunks, group: Sequence[int], pool: Executor, on_logits: OnLogits | None
) -> list[NDArray[numpy.float64]]:
    """Return float64 [scored] for each chunk: the negative log-likelihoods of its scored tokens."""
    parts: list[list[NDArray[numpy.float64]]] = [[] for _ in group]
    for place, position, logits in evaluate_group(runtime, chunks, group, chunks.scored):
        index = group[place]
        if on_logits is not None:
            on_logits(index, position - chunks.first, logits)
        targets = chunks.targets(index, position, len(logits))
        parts[place].append(negative_log_likelihoods(logits, targets, pool))
    return [numpy.concatenate(part) for part in parts]
