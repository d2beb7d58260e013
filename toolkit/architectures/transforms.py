"""Transforms between a checkpoint's rows and GGUF's, each a row source around another, so that no tensor is held whole."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy
from numpy.typing import NDArray

from toolkit.architectures.base import Transform
from toolkit.ggml_types import BF16, F16, F32, TensorType
from toolkit.model_config import ModelConfig
from toolkit.rows import Bytes, RowSource, row_count

Indices = NDArray[numpy.intp]
Floats = NDArray[Any]
ROWS_AT_ONCE = 1024
"""rows of the source that a transposition touches at a time"""


@dataclass(frozen=True)
class SelectedRows:
    """Rows of a source in another order, or some of them; a vector's elements take the part of rows."""

    source: RowSource
    shape: tuple[int, ...]
    origin: Callable[[Indices], Indices]
    """gives the source row of every row"""

    @property
    def type(self) -> TensorType:
        """Return the source's type."""
        return self.source.type

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
class SelectedColumns:
    """Rows whose elements stand in another order, or some of them."""

    source: RowSource
    columns: Indices

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the source's shape with another row length."""
        return (*self.source.shape[:-1], len(self.columns))

    @property
    def type(self) -> TensorType:
        """Return the source's type."""
        return self.source.type

    def read_rows(self, start: int, stop: int) -> Bytes:
        """Return rows start to stop with the chosen elements."""
        rows = self.source.read_rows(start, stop).reshape(stop - start, self.source.shape[-1], -1)
        return rows[:, self.columns].reshape(stop - start, -1)


@dataclass(frozen=True)
class Padded:
    """A matrix with rows of zeros after its own."""

    source: RowSource
    shape: tuple[int, ...]

    @property
    def type(self) -> TensorType:
        """Return the source's type."""
        return self.source.type

    def read_rows(self, start: int, stop: int) -> Bytes:
        """Return rows start to stop, zeros where the source has none."""
        result = numpy.zeros((stop - start, self.type.row_bytes(self.shape[-1])), dtype=numpy.uint8)
        stored = min(stop, self.source.shape[0])
        if start < stored:
            result[: stored - start] = self.source.read_rows(start, stored)
        return result


@dataclass(frozen=True)
class Transposed:
    """Matrices with rows and columns exchanged; a tensor of three axes holds a matrix for every index of the first."""

    source: RowSource

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the source's shape with its last two axes exchanged."""
        *matrices, rows, columns = self.source.shape
        return (*matrices, columns, rows)

    @property
    def type(self) -> TensorType:
        """Return the source's type."""
        return self.source.type

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
        values = _values(self.source.read_rows(start, stop), self.source.type)
        computed = numpy.ascontiguousarray(self.function(values), dtype=values.dtype)
        return computed.view(numpy.uint8).reshape(stop - start, -1)


def _values(rows: Bytes, type_: TensorType) -> Floats:
    stored = numpy.ascontiguousarray(rows)
    if type_ is BF16:
        return (stored.view("<u2").astype("<u4") << numpy.uint32(16)).view("<f4")
    if type_ is F32 or type_ is F16:
        return stored.view("<f4" if type_ is F32 else "<f2")
    raise ValueError(f"cannot compute on rows of {type_.name}")


@dataclass(frozen=True)
class Reshaped:
    """The same elements in the same order under another shape."""

    source: RowSource
    shape: tuple[int, ...]

    @property
    def type(self) -> TensorType:
        """Return the source's type."""
        return self.source.type

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


def element_values(source: RowSource) -> Floats:
    """Return all values of a small tensor, which may have no axis at all."""
    whole = source if source.shape else replace(source, shape=(1,))  # type: ignore[type-var]  # row sources are dataclasses
    return _values(whole.read_rows(0, row_count(whole.shape)), source.type).reshape(-1)


def stacked(sources: tuple[RowSource, ...]) -> RowSource:
    """Return sources of one shape under each other, along a new first axis."""
    return Joined(sources, (len(sources), *sources[0].shape))


def interleaved(source: RowSource, n_head: int) -> RowSource:
    """Return a Q or K projection reordered within each head from split halves to interleaved pairs.

    transformers rotates element k with element k + head_dim / 2, llama.cpp's `llama` graph rotates neighbours: row
    2k + t of a head is row k + t * head_dim / 2 of the source (`LlamaModel.permute` in llama.cpp's converter).
    """
    length = source.shape[0] // n_head

    def origin(rows: Indices) -> Indices:
        head, within = numpy.divmod(rows, length)
        pair, half = numpy.divmod(within, 2)
        result: Indices = head * length + half * (length // 2) + pair
        return result

    return SelectedRows(source, source.shape, origin)


def interleave_rope(heads_key: str) -> Transform:
    """Return the transform for a projection whose number of heads stands under `heads_key` of the config."""
    return lambda source, config: interleaved(source, config.integer(heads_key))


def row_range(source: RowSource, start: int, stop: int) -> RowSource:
    """Return the rows start to stop of a matrix, or the elements of a vector."""
    return SelectedRows(source, (stop - start, *source.shape[1:]), lambda rows: rows + start)


def part(index: int, of: int) -> Transform:
    """Return the transform that takes one of equal parts along the axis before the last; stacked matrices each give theirs."""

    def transform(source: RowSource, _config: ModelConfig) -> RowSource:
        *matrices, rows = source.shape[:-1] if len(source.shape) > 1 else source.shape
        length = rows // of
        shape = (*matrices, length, *source.shape[len(matrices) + 1 :])
        return SelectedRows(source, shape, lambda new: new // length * rows + index * length + new % length)

    return transform


def every_other_row(first: int) -> Transform:
    """Return the transform that takes the even (0) or the odd (1) rows."""

    def transform(source: RowSource, _config: ModelConfig) -> RowSource:
        shape = (*source.shape[:-2], source.shape[-2] // 2, source.shape[-1])
        return SelectedRows(source, shape, lambda rows: 2 * rows + first)

    return transform


def every_other_column(first: int) -> Transform:
    """Return the transform that takes the even (0) or the odd (1) elements of every row."""
    return lambda source, _config: SelectedColumns(source, numpy.arange(first, source.shape[-1], 2))


def regrouped(source: RowSource, order: Indices) -> RowSource:
    """Return the rows that `order` lists; 8 bytes a row are held for it."""
    return SelectedRows(source, (len(order), *source.shape[1:]), lambda rows: order[rows])


def transpose(source: RowSource, _config: ModelConfig) -> RowSource:
    """Exchange rows and columns."""
    return Transposed(source) if len(source.shape) > 1 else source


def plus_one(source: RowSource, _config: ModelConfig) -> RowSource:
    """Add 1: a norm stored as its distance from 1."""
    return Computed(source, lambda values: values + values.dtype.type(1))


def negative_exponential(source: RowSource, _config: ModelConfig) -> RowSource:
    """Return -exp(x), correctly rounded: the A of a state space model, stored as its logarithm."""
    return Computed(source, lambda values: -numpy.exp(values.astype(numpy.float64)))


def scaled(source: RowSource, factor: float) -> RowSource:
    """Return the values times a factor."""
    return Computed(source, lambda values: values * values.dtype.type(factor))


def squeeze(source: RowSource, _config: ModelConfig) -> RowSource:
    """Drop the axes between the first and the last: those of a depthwise convolution have length 1."""
    return Reshaped(source, (source.shape[0], source.shape[-1]))


def compose(*transforms: Transform) -> Transform:
    """Return the transform that does these one after the other."""

    def transform(source: RowSource, config: ModelConfig) -> RowSource:
        for one in transforms:
            source = one(source, config)
        return source

    return transform


def column(source: RowSource, _config: ModelConfig) -> RowSource:
    """Return a vector as a matrix of one column."""
    return Reshaped(source, (*source.shape, 1))


def ungrouped(groups: int, parts: tuple[int, ...]) -> Indices:
    """Return the order that turns groups of parts into the first parts of all groups, then the second ones, and so on."""
    rows = numpy.arange(groups * sum(parts)).reshape(groups, -1)
    ends = numpy.cumsum(parts)
    return numpy.concatenate([rows[:, end - length : end].reshape(-1) for length, end in zip(parts, ends, strict=True)])


def head_rows(source: RowSource, heads: int, start: int, stop: int) -> RowSource:
    """Return [heads, stop - start, …]: a range of the rows of every head."""
    length, taken = source.shape[0] // heads, stop - start

    def origin(rows: Indices) -> Indices:
        head, within = numpy.divmod(rows, taken)
        result: Indices = head * length + start + within
        return result

    return SelectedRows(source, (heads, taken, *source.shape[1:]), origin)
