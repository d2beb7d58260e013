"""Layouts that several formats share: codes by groups of inputs (GPTQ, AWQ), and numbers by tiles of a matrix (FP8, int8)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

from toolkit.errors import CheckpointError
from toolkit.quantized_sources.numbers import Codes, Floats, Numbers
from toolkit.quantized_sources.quantized_format import Grid, Parts

ReadColumns = Callable[[int, int], Codes]


@dataclass(frozen=True)
class GroupedMatrix:
    """Codes [inputs, outputs] with a scale and a zero for every group of inputs and output.

    w[o, i] = scales[group of i, o] * (code[i, o] - zero[group of i, o]), in float32.
    """

    codes: ReadColumns
    """uint8 [inputs, stop - start] of outputs start to stop"""
    zeros: ReadColumns
    """uint8 [groups, stop - start], as stored"""
    zero_offset: int
    """what is added to a stored zero"""
    scales: Numbers
    """[groups, outputs]"""
    groups: NDArray[numpy.intp]
    """[inputs]"""

    def values(self, start: int, stop: int) -> Floats:
        """Return float32 [stop - start, inputs]."""
        zeros = self._zeros(start, stop)
        steps = (self.codes(start, stop).astype(numpy.int16) - zeros[self.groups]).astype(numpy.float32)
        scales = self.scales.floats((slice(None), slice(start, stop)))
        steps *= scales[self.groups]
        return steps.T

    def _zeros(self, start: int, stop: int) -> NDArray[numpy.int16]:
        """Return int16 [groups, stop - start]."""
        return self.zeros(start, stop).astype(numpy.int16) + numpy.int16(self.zero_offset)

    def grid(self, bits: int) -> Grid | None:
        """Return the integers by rows of the weight; None where the inputs of a group do not follow each other."""
        size = len(self.groups) // len(self.scales.bits)
        if not numpy.array_equal(self.groups, numpy.arange(len(self.groups)) // size):
            return None
        return Grid(
            bits,
            size,
            codes=lambda start, stop: self.codes(start, stop).T,
            scales=lambda start, stop: self.scales.floats((slice(None), slice(start, stop))).T,
            zeros=lambda start, stop: self._zeros(start, stop).T,
        )


@dataclass(frozen=True)
class Tiles:
    """One number for every tile of each matrix of a tensor: all of the matrix, a row, a group of columns, or a block.

    Tiles are `height` x `width`; those at the edges may be smaller.
    """

    numbers: Numbers
    """[matrices, tiles down, tiles across]"""
    rows_per_matrix: int
    columns: int
    height: int
    width: int

    def rows(self, start: int, stop: int) -> Floats:
        """Return float32 [stop - start, columns], or [stop - start, 1] where a row has one number."""
        matrix, row = numpy.divmod(numpy.arange(start, stop), self.rows_per_matrix)
        tiles = self.numbers.floats((matrix, row // self.height))
        return tiles if tiles.shape[1] == 1 else tiles[:, numpy.arange(self.columns) // self.width]


def spread(stored: Numbers, shape: tuple[int, ...], tile: tuple[int, int] | None) -> Tiles | None:
    """Return stored numbers as tiles of a tensor of `shape` [..., rows, columns], None if they do not fit it.

    `tile` is the declared size of a tile (height, width). Without it, there is one number for the tensor, one for each
    matrix, or one for each row.
    """
    matrices = int(numpy.prod(shape[:-2]))
    rows, columns = shape[-2:]
    height, width = tile or _undeclared(stored.shape, shape)
    down, across = -(-rows // height), -(-columns // width)
    if stored.bits.size == 1:
        repeated = numpy.broadcast_to(stored.bits.reshape(1, 1, 1), (matrices, 1, 1))
        return Tiles(stored.mapped(lambda _: repeated), rows, columns, rows, columns)
    if stored.bits.size != matrices * down * across or (tile and stored.shape[-2:] != (down, across)):
        return None
    return Tiles(stored.reshaped(matrices, down, across), rows, columns, height, width)


def _undeclared(scales: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, int]:
    rows, columns = shape[-2:]
    per_row = scales in (shape[:-1], (*shape[:-1], 1))
    return (1, columns) if per_row else (rows, columns)


@dataclass(frozen=True)
class ScaledWeights:
    """w = (code - zero of its tile) * scale of its tile, in float32."""

    codes: Numbers
    scales: Tiles
    zeros: Tiles | None = None

    def values(self, start: int, stop: int) -> Floats:
        """Return float32 [stop - start, row length]."""
        row_length = self.codes.shape[-1]
        weights = self.codes.reshaped(-1, row_length).floats(slice(start, stop))
        if self.zeros is not None:
            weights = weights - self.zeros.rows(start, stop)
        return weights * self.scales.rows(start, stop)


def fitting_tiles(parts: Parts, weight: str, numbers_name: str, tile: tuple[int, int] | None) -> Tiles:
    """Return the numbers of a tensor as tiles of a weight.

    Raises CheckpointError if they are missing or of another shape than the declared layout has.
    """
    shape = parts.tensors[weight].shape
    stored = parts.require(numbers_name, weight)
    if len(shape) < 2:
        raise CheckpointError(f"{weight} has shape {list(shape)}; a quantized weight has two axes or more")
    tiles = spread(stored, shape, tile)
    if tiles is None:
        declared = f"blocks of {tile[0]} x {tile[1]}" if tile else "one for the tensor, or one for each row"
        raise CheckpointError(
            f"{stored.name} has shape {list(stored.shape)}, which does not fit {weight} {list(shape)} "
            f"({parts.declaration.method}: {declared})"
        )
    return tiles
