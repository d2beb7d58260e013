"""Softmax over rows of logits, rounded as llama-perplexity rounds it.

It takes exponentials in 32 bits and adds them in 64. numpy's 32-bit exponentials are often off by a unit in the last place
where C's are not, and over many tokens that shows in the last digits that are printed.
"""

from concurrent.futures import Executor

import numpy
from numpy.typing import NDArray

from toolkit.llama.evaluation import Logits

Floats = NDArray[numpy.float32]
_LIGHT = numpy.float32(1e-4)
"""Exponentials up to this are left to numpy: there are many and they weigh little, so that their errors cancel."""
_CACHED_BYTES = 2 << 20


def log_sum(logits: Floats, top: Floats) -> Floats:
    """Return float32 [n, 1], log sum exp(logits - top), of logits [n, n_vocab] and the largest of each row, top [n, 1]."""
    total = exponentials(logits - top).sum(axis=1, keepdims=True, dtype=numpy.float64)
    result: Floats = numpy.log(total).astype(numpy.float32)
    return result


def exponentials(exponents: Floats) -> Floats:
    """Return exp of float32 [n, n_vocab], correctly rounded wherever the result weighs."""
    result: Floats = numpy.exp(exponents)
    flat = result.reshape(-1)
    heavy = numpy.flatnonzero(flat > _LIGHT)
    flat[heavy] = numpy.exp(exponents.reshape(-1)[heavy], dtype=numpy.float64)
    return result


def row_spans(n_rows: int, n_vocab: int) -> list[slice]:
    """Cut rows of logits into spans that stay in a processor's cache."""
    step = max(1, _CACHED_BYTES // (4 * n_vocab))
    return [slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step)]


def negative_log_likelihoods(
    logits: Logits, targets: NDArray[numpy.int64], pool: Executor | None = None
) -> NDArray[numpy.float64]:
    """Return float64 [n]: -log softmax(logits)[target], for logits float32 [n, n_vocab] and targets [n].

    Exponentials are taken in 32 bits and added in 64, as llama-perplexity does; a few MiB at a time.
    """
    spans = [(logits[span], targets[span]) for span in row_spans(*logits.shape)]
    scored = pool.map(_score, spans) if pool is not None else map(_score, spans)
    return numpy.concatenate(list(scored))


def _score(span: tuple[Logits, NDArray[numpy.int64]]) -> NDArray[numpy.float64]:
    logits, targets = span
    # The error state belongs to the thread; the caller reports what is not finite.
    with numpy.errstate(all="ignore"):
        shifted = logits - logits.max(axis=1, keepdims=True)
        picked = shifted[numpy.arange(len(targets)), targets].astype(numpy.float64)
        numpy.exp(shifted, out=shifted)
        result: NDArray[numpy.float64] = numpy.log(shifted.sum(axis=1, dtype=numpy.float64)) - picked
    return result
