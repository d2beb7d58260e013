"""The logarithm of a row's sum of exponentials, rounded as llama-perplexity rounds it.

It takes exponentials in 32 bits and adds them in 64. numpy's 32-bit exponentials are often off by a unit in the last place
where C's are not, and over many tokens that shows in the last digits that are printed.
"""

import numpy
from numpy.typing import NDArray

Floats = NDArray[numpy.float32]
_LIGHT = numpy.float32(1e-4)
"""Exponentials up to this are left to numpy: there are many and they weigh little, so that their errors cancel."""


def log_sum(logits: Floats, top: Floats) -> Floats:
    """Return float32 [n, 1], log sum exp(logits - top), of logits [n, n_vocab] and the largest of each row, top [n, 1]."""
    n_vocab = logits.shape[1]
    exponentials = logits - top
    numpy.exp(exponentials, out=exponentials)
    flat = exponentials.reshape(-1)
    heavy = numpy.flatnonzero(flat > _LIGHT)
    differences = logits.reshape(-1)[heavy] - top.reshape(-1)[heavy // n_vocab]
    flat[heavy] = numpy.exp(differences, dtype=numpy.float64)
    total = exponentials.sum(axis=1, keepdims=True, dtype=numpy.float64)
    result: Floats = numpy.log(total).astype(numpy.float32)
    return result
