"""Rows in another order, another shape or of other values than those of the source around which they are built.

Each reads from its source what it is asked for, so that no tensor is held whole.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy
from numpy.typing import NDArray

from toolkit.gguf.ggml_types import BF16, F16, F32, TensorType
from toolkit.gguf.rows import Bytes, RowSource, row_count

Indices = NDArray[numpy.intp]
Floats = NDArray[Any]
ROWS_AT_ONCE = 1024
"""rows of the source that a transposition touches at a time"""


@dataclass(frozen=True)
class _Rearranged:
    """Rows made of those of a source, in its type."""

    source: RowSource

    @property
    def type(self) -> TensorType:
        """Return the source's type."""
        return self.source.type


@dataclass(frozen=True)
class SelectedRows(_Rearranged):
    """Rows of a source in another order, or some of them; a vector's elements take the part of rows."""

    shape: tuple[int, ...]
    origin: Callable[[Indices], Indices]
    """gives the source row of every row"""

    def read_rows(self, start: int, stop: int) -> Bytes:
        """Return rows start to stop of the new order."""
        if len(self.source.shape) == 1:
            elements = self.source.read_rows(0, 1).reshape(self.source.shape[0], -1)
            return elements[self.origin(numpy.arange(self._length))].reshape(1, -1)
        return _gather(self.source, self.origin(numpy.arange(start, stop)))

    @property
    def _length(self) -> int:
        return self.shape[0]


def _gather(source: RowSource, rows: Indices) -> Bytes:
    """Read scattered rows: in one piece where they lie close together, else run by run."""
    first, last = int(rows.min()), int(rows.max()) + 1
    if last - first <= 2 * len(rows) + ROWS_AT_ONCE:
        return source.read_rows(first, last)[rows - first]
    breaks = numpy.flatnonzero(numpy.diff(rows) != 1) + 1
    runs = numpy.split(rows, breaks)
    return numpy.concatenate([source.read_rows(int(run[0]), int(run[-1]) + 1) for run in runs])


@dataclass(frozen=True)
class SelectedColumns(_Rearranged):
    """Rows whose elements stand in another order, or some of them."""

    columns: Indices

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the source's shape with another row length."""
        return (*self.source.shape[:-1], len(self.columns))

    def read_rows(self, start: int, stop: int) -> Bytes:
        """Return rows start to stop with the chosen elements."""
        rows = self.source.read_rows(start, stop).reshape(stop - start, self.source.shape[-1], -1)
        return rows[:, self.columns].reshape(stop - start, -1)


@dataclass(frozen=True)
class Padded(_Rearranged):
    """A matrix with rows of zeros after its own."""

    shape: tuple[int, ...]

    def read_rows(self, start: int, stop: int) -> Bytes:
        """Return rows start to stop, zeros where the source has none."""
        result = numpy.zeros((stop - start, self.type.row_bytes(self.shape[-1])), dtype=numpy.uint8)
        stored = min(stop, self.source.shape[0])
        if start < stored:
            result[: stored - start] = self.source.read_rows(start, stored)
        return result


@dataclass(frozen=True)
class Transposed(_Rearranged):
    """Matrices with rows and columns exchanged; a tensor of three axes holds a matrix for every index of the first."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the source's shape with its last two axes exchanged."""
        *matrices, rows, columns = self.source.shape
        return (*matrices, columns, rows)

    def read_rows(self, start: int, stop: int) -> Bytes:
        """Return rows start to stop: columns of the source."""
        columns = self.source.shape[-1]
        parts = []
        while start < stop:
            matrix, column = divmod(start, columns)
            end = min(stop, (matrix + 1) * columns)
            parts.append(self._columns(matrix, column, column + end - start))
            start = end
        return parts[0] if len(parts) == 1 else numpy.concatenate(parts)

    def _columns(self, matrix: int, first: int, last: int) -> Bytes:
        rows, columns = self.source.shape[-2:]
        size = self.type.block_bytes
        result = numpy.empty((last - first, rows, size), dtype=numpy.uint8)
        for row in range(0, rows, ROWS_AT_ONCE):
            stop = min(row + ROWS_AT_ONCE, rows)
            read = self.source.read_rows(matrix * rows + row, matrix * rows + stop).reshape(stop - row, columns, size)
            result[:, row:stop] = read[:, first:last].transpose(1, 0, 2)
        return result.reshape(last - first, rows * size)


@dataclass(frozen=True)
class Computed:
    """Rows on whose values a function works: in float16 where they are float16, else in float32."""

    source: RowSource
    function: Callable[[Floats], Floats]

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the source's shape."""
        return self.source.shape

    @property
    def type(self) -> TensorType:
        """Return the type in which is computed."""
        return F16 if self.source.type is F16 else F32

    def read_rows(self, start: int, stop: int) -> Bytes:
        """Return the computed rows."""
        values = row_values(self.source.read_rows(start, stop), self.source.type)
        computed = numpy.ascontiguousarray(self.function(values), dtype=values.dtype)
        return computed.view(numpy.uint8).reshape(stop - start, -1)


def row_values(rows: Bytes, type_: TensorType) -> Floats:
    """Return float16 for rows of float16, float32 for those of bfloat16 and float32."""
    stored = numpy.ascontiguousarray(rows)
    if type_ is BF16:
        return (stored.view("<u2").astype("<u4") << numpy.uint32(16)).view("<f4")
    if type_ is F32 or type_ is F16:
        return stored.view("<f4" if type_ is F32 else "<f2")
    raise ValueError(f"cannot compute on rows of {type_.name}")


@dataclass(frozen=True)
class Reshaped(_Rearranged):
    """The same elements in the same order under another shape."""

    shape: tuple[int, ...]

    def read_rows(self, start: int, stop: int) -> Bytes:
        """Return rows start to stop of the new shape."""
        if self.shape[-1] == self.source.shape[-1]:
            return self.source.read_rows(start, stop)
        # only small tensors change the length of their rows
        whole = self.source.read_rows(0, row_count(self.source.shape))
        return whole.reshape(row_count(self.shape), -1)[start:stop]


@dataclass(frozen=True)
class Joined:
    """Several sources of the same row length and type, one after the other."""

    sources: tuple[RowSource, ...]
    shape: tuple[int, ...]

    @property
    def type(self) -> TensorType:
        """Return the type of the sources."""
        return self.sources[0].type

    def read_rows(self, start: int, stop: int) -> Bytes:
        """Return rows start to stop, from as many sources as they lie in."""
        parts, first = [], 0
        for source in self.sources:
            last = first + row_count(source.shape)
            if first < stop and start < last:
                parts.append(source.read_rows(max(start, first) - first, min(stop, last) - first))
            first = last
        return parts[0] if len(parts) == 1 else numpy.concatenate(parts)


def moves_whole_rows(rows: RowSource) -> bool:
    """Tell whether rows come from their source as they are, in whatever order: then blocks of codes may stand in them."""
    match rows:
        case SelectedRows():
            return len(rows.source.shape) > 1 and moves_whole_rows(rows.source)
        case Reshaped():
            return rows.shape[-1] == rows.source.shape[-1] and moves_whole_rows(rows.source)
        case Joined():
            return all(moves_whole_rows(source) for source in rows.sources)
        case Padded():
            return moves_whole_rows(rows.source)
        case SelectedColumns() | Transposed() | Computed():
            return False
    return True
