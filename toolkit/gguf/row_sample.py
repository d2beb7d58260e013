"""Which rows of a tensor stand for all of them."""

import zlib
from collections.abc import Iterator

import numpy

from toolkit.gguf.rows import row_count

RUNS, RUN_ROWS = 3, 4
WEIGHTS_AT_ONCE = 1 << 20


def all_runs(shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Yield all rows in pieces."""
    step, count = max(1, WEIGHTS_AT_ONCE // shape[-1]), row_count(shape)
    yield from ((start, min(start + step, count)) for start in range(0, count, step))


def sampled_runs(
    name: str, shape: tuple[int, ...], runs: int = RUNS, run_rows: int = RUN_ROWS
) -> Iterator[tuple[int, int]]:
    """Yield a few runs of rows at places that depend on the name alone: several of a matrix, one of every expert's.

    Their places are drawn, because every head's first row stays where it is when a head is permuted.
    """
    rows, matrices = (shape[-2], row_count(shape) // shape[-2]) if len(shape) > 1 else (1, 1)
    if matrices == 1 and rows <= runs * run_rows:
        yield 0, rows
        return
    draw = numpy.random.default_rng(zlib.crc32(name.encode()))
    for matrix in range(matrices):
        for _ in range(1 if matrices > 1 else runs):
            start = int(draw.integers(0, max(1, rows - run_rows + 1)))
            yield matrix * rows + start, matrix * rows + min(start + run_rows, rows)
