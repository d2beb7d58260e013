"""Transforms between a checkpoint's rows and GGUF's: functions that build one row source around another."""

from dataclasses import replace

import numpy

from toolkit.architectures.parts.base import Transform
from toolkit.architectures.parts.row_sources import (
    Computed,
    Floats,
    Indices,
    Joined,
    Reshaped,
    SelectedColumns,
    SelectedRows,
    Transposed,
    row_values,
)
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.rows import RowSource, row_count


def element_values(source: RowSource) -> Floats:
    """Return all values of a small tensor, which may have no axis at all."""
    whole = source if source.shape else replace(source, shape=(1,))  # type: ignore[type-var]  # row sources are dataclasses
    return row_values(whole.read_rows(0, row_count(whole.shape)), source.type).reshape(-1)


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


def heads_apart(source: RowSource, config: ModelConfig) -> RowSource:
    """Order rows that hold Q, K and V head by head: all of Q, then K, then V."""
    heads = config.integer("num_attention_heads")
    length = source.shape[0] // (3 * heads)
    return regrouped(source, ungrouped(heads, (length, length, length)))
