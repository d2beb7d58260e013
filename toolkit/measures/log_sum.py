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
    total = exponentials(logits - top).sum(axis=1, keepdims=True, dtype=numpy.float64)
    result: Floats = numpy.log(total).astype(numpy.float32)
    return result


def exponentials(exponents: Floats) -> Floats:
    """Return exp of float32 [n, n_vocab], rounded as it should be wherever the result weighs."""
    result: Floats = numpy.exp(exponents)
    flat = result.reshape(-1)
    heavy = numpy.flatnonzero(flat > _LIGHT)
    flat[heavy] = numpy.exp(exponents.reshape(-1)[heavy], dtype=numpy.float64)
    return result
