"""Where the rows of a tensor come from.

A row source knows its shape and the type of what it stores, and reads any range of rows on demand, so that no
conversion ever needs a whole tensor in memory. Row indices run over all leading axes flattened.
"""

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy
from numpy.typing import NDArray

from toolkit.gguf.ggml_types import F32, TensorType

Bytes = NDArray[numpy.uint8]


class RowSource(Protocol):
    """A tensor whose rows can be read."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape, row length last."""
        ...

    @property
    def type(self) -> TensorType:
        """Return the type in which rows are delivered."""
        ...

    def read_rows(self, start: int, stop: int) -> Bytes:
        """Return uint8 [stop - start, row_bytes]: the stored bytes of these rows."""
        ...


def row_count(shape: tuple[int, ...]) -> int:
    """Return the number of rows of a tensor of `shape`; a vector has one."""
    return math.prod(shape[:-1])


@dataclass(frozen=True)
class StoredRows:
    """Rows that lie one after the other in a file or array, read through a memory map."""

    shape: tuple[int, ...]
    type: TensorType
    data: Bytes
    """uint8 [all bytes of the tensor]"""

    def read_rows(self, start: int, stop: int) -> Bytes:
        """Return a view of the stored rows."""
        row_bytes = self.type.row_bytes(self.shape[-1])
        return self.data[start * row_bytes : stop * row_bytes].reshape(stop - start, row_bytes)


def generated(values: NDArray[Any]) -> StoredRows:
    """Return a source of float32 rows for values that no checkpoint stores."""
    stored = numpy.ascontiguousarray(values, dtype="<f4")
    return StoredRows(stored.shape, F32, stored.reshape(-1).view(numpy.uint8))


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
