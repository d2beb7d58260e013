"""Scales that each cover a tile of a matrix: all of it, a row, a group of columns, or a block."""

from dataclasses import dataclass

import numpy

from toolkit.quantized_sources.numbers import Floats, Numbers


@dataclass(frozen=True)
class Tiles:
    """One number for every `height` x `width` tile of each matrix of a tensor; tiles at the edges may be smaller."""

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


def spread(found: Numbers, shape: tuple[int, ...], tile: tuple[int, int] | None) -> Tiles | None:
    """Return how numbers lie over a tensor of `shape` [..., rows, columns], None if they do not fit.

    `tile` is the declared size of a tile (height, width). Without it, there is one number for the tensor, one for each
    matrix, or one for each row.
    """
    matrices = int(numpy.prod(shape[:-2]))
    rows, columns = shape[-2:]
    height, width = tile or _undeclared(found.shape, shape)
    down, across = -(-rows // height), -(-columns // width)
    if found.bits.size == 1:
        one = numpy.broadcast_to(found.bits.reshape(1, 1, 1), (matrices, 1, 1))
        return Tiles(found.mapped(lambda _: one), rows, columns, rows, columns)
    if found.bits.size != matrices * down * across or (tile and found.shape[-2:] != (down, across)):
        return None
    return Tiles(found.reshaped(matrices, down, across), rows, columns, height, width)


def _undeclared(scales: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, int]:
    rows, columns = shape[-2:]
    per_row = scales in (shape[:-1], (*shape[:-1], 1))
    return (1, columns) if per_row else (rows, columns)
