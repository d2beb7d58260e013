"""Moments of the inputs that a weight gets in the quantized model, and of how far they are from those of the original.

With x the input in the original and z the one in the quantized model: H = mean of z z^T, C = mean of (x - z) z^T.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy
from numpy.typing import NDArray

from toolkit.calibration.block_runtime import Activations
from toolkit.measures.moment_collection import HELD_OUT_EVERY
from toolkit.rounding.asymmetric import Inputs

Floats = NDArray[numpy.float32]
Doubles = NDArray[numpy.float64]
_PANEL = 256


class PairedSums:
    """Sums of some matrices that share an input, or of some experts; one half is held out."""

    def __init__(self, matrices: Sequence[int], row_length: int, pool: ThreadPoolExecutor) -> None:
        self._places = {matrix: place for place, matrix in enumerate(matrices)}
        shape = (2, len(matrices), row_length, row_length)
        self._second, self._shift = numpy.zeros(shape), numpy.zeros(shape)
        self._tokens = numpy.zeros((2, len(matrices)), numpy.int64)
        self._pool = pool

    def add(self, chunks: range, original: Activations, quantized: Activations) -> None:
        """Add what chunks of these numbers gave in both models, one after the other."""
        numbers = numpy.repeat(numpy.array(chunks), len(quantized.values) // len(chunks))
        held_out = numbers % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
        for matrix, tokens, x, z in _by_matrix(original, quantized):
            place = self._places.get(matrix)
            if place is None:
                continue
            for half in range(2):
                here = held_out[tokens] == bool(half)
                if here.any():
                    self._add_rows(half, place, x[here], z[here])

    def _add_rows(self, half: int, place: int, x: Floats, z: Floats) -> None:
        self._add_product(self._second[half, place], z, z)
        self._add_product(self._shift[half, place], x - z, z)
        self._tokens[half, place] += len(z)

    def moments(self, matrix: int) -> tuple[Inputs, Inputs, Inputs]:
        """Return those of the fitted chunks, of those held out, and of all."""
        place = self._places[matrix]
        second, shift, tokens = self._second[:, place], self._shift[:, place], self._tokens[:, place]
        parts = [
            Inputs(second[half] / max(1, tokens[half]), shift[half] / max(1, tokens[half]), int(tokens[half]))
            for half in range(2)
        ]
        count = max(1, int(tokens.sum()))
        return parts[0], parts[1], Inputs(second.sum(0) / count, shift.sum(0) / count, int(tokens.sum()))

    def _add_product(self, total: Doubles, left: Floats, right: Floats) -> None:
        # Panels of one size, so that the sums do not depend on how many threads there are.
        starts = range(0, left.shape[1], _PANEL)
        products = self._pool.map(lambda start: left[:, start : start + _PANEL].T @ right, starts)
        for start, product in zip(starts, products, strict=True):
            total[start : start + _PANEL] += product


def sum_bytes(row_length: int) -> int:
    """Return what the sums of one matrix take."""
    return 4 * 8 * row_length**2


def _by_matrix(
    original: Activations, quantized: Activations
) -> Iterator[tuple[int, NDArray[numpy.int64], Floats, Floats]]:
    """Yield (matrix, tokens, rows of the original, rows of the quantized model).

    A token that the original routed to other experts has no counterpart there: its input counts as the same.
    """
    if quantized.experts is None or original.experts is None:
        yield 0, numpy.arange(len(quantized.values)), original.values, quantized.values
        return
    for expert in numpy.unique(quantized.experts):
        tokens, slots = numpy.nonzero(quantized.experts == expert)
        z = quantized.values[tokens, slots % quantized.values.shape[1]]
        there = original.experts[tokens] == expert
        x = original.values[tokens, there.argmax(1) % original.values.shape[1]]
        shared = original.values.shape[1] == 1
        yield int(expert), tokens, numpy.where(there.any(1)[:, None] | shared, x, z), z
