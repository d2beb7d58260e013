"""Keep the integers of a quantized source: groups of 32 codes become a quant block of GGUF that holds the same values.

Q4_0: w = d * (q - 8).  Q4_1, Q5_1: w = d * q + m.  Q8_0: w = d * q.  d and m are float16.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy
from numpy.typing import NDArray

from toolkit.gguf.ggml_types import Q8_0, TYPES, TensorType
from toolkit.gguf.rows import Bytes, row_count
from toolkit.model_source import KeptBlocks
from toolkit.quantized_sources.numbers import Floats
from toolkit.quantized_sources.quantized_format import DequantizedTensor, Grid

Q4_0, Q4_1, Q5_1 = TYPES["Q4_0"], TYPES["Q4_1"], TYPES["Q5_1"]
BLOCK = 32
ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class _BlockRows:
    """Rows of a grid, written as quant blocks."""

    shape: tuple[int, ...]
    type: TensorType
    grid: Grid
    blocks: Callable[[Grid, int, int], Bytes]

    def read_rows(self, start: int, stop: int) -> Bytes:
        """Return uint8 [stop - start, row_bytes]."""
        return self.blocks(self.grid, start, stop).reshape(stop - start, -1)


def repacked(tensor: DequantizedTensor) -> KeptBlocks | None:
    """Return the tensor in quant blocks of GGUF, None if GGUF has no quant block for its grid.

    Reads the scales and zeros, no codes.
    """
    grid = tensor.grid
    if tensor.blocks is not None:
        return KeptBlocks(tensor.blocks, 0.0)
    if (
        grid is None
        or grid.group_size % BLOCK
        or tensor.shape[-1] % BLOCK
        or not _scales_are_float16(tensor.shape, grid)
    ):
        return None
    if grid.bits <= 4 and _zeros_within(tensor.shape, grid, 8, 2**grid.bits - 8):
        return _as(tensor, grid, Q4_0, _q4_0_blocks, 0.0)
    if grid.bits == 8 and _zeros_within(tensor.shape, grid, 128, 128):
        return _as(tensor, grid, Q8_0, _q8_0_blocks, 0.0)
    if grid.bits <= 5:
        type_, blocks = (Q4_1, _q4_1_blocks) if grid.bits <= 4 else (Q5_1, _q5_1_blocks)
        return _as(tensor, grid, type_, blocks, _worst_minimum(tensor.shape, grid))
    return None


def _as(
    tensor: DequantizedTensor, grid: Grid, type_: TensorType, blocks: Callable[[Grid, int, int], Bytes], worst: float
) -> KeptBlocks | None:
    if not numpy.isfinite(worst):
        return None
    return KeptBlocks(_BlockRows(tensor.shape, type_, grid, blocks), worst)


def _ranges(shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    count = row_count(shape)
    for start in range(0, count, ROWS_AT_ONCE):
        yield start, min(start + ROWS_AT_ONCE, count)


def _scales_are_float16(shape: tuple[int, ...], grid: Grid) -> bool:
    """Tell whether float16 holds the scales.

    False where all are zero: then the scales are not here yet, as in the outline of a checkpoint on the hub.
    """
    any_set = False
    for start, stop in _ranges(shape):
        scales = grid.scales(start, stop)
        if not _exact(scales):
            return False
        any_set = any_set or bool(scales.any())
    return any_set


def _exact(values: Floats) -> bool:
    with numpy.errstate(over="ignore"):
        return bool((values.astype(numpy.float16).astype(numpy.float32) == values).all())


def _zeros_within(shape: tuple[int, ...], grid: Grid, highest: int, lowest: int) -> bool:
    """Tell whether all zeros lie from `lowest` to `highest`, so that codes less their zeros fit a signed type."""
    if grid.minimums is not None:
        return False
    zeros_by_range = (_zeros(grid, start, stop) for start, stop in _ranges(shape))
    return all(int(zeros.min()) >= lowest and int(zeros.max()) <= highest for zeros in zeros_by_range)


def _minimums(grid: Grid, start: int, stop: int) -> Floats:
    """Return float32 [rows, groups]: what code 0 means."""
    if grid.minimums is not None:
        return grid.minimums(start, stop)
    return -grid.scales(start, stop) * _zeros(grid, start, stop).astype(numpy.float32)


def _zeros(grid: Grid, start: int, stop: int) -> NDArray[numpy.int16]:
    return numpy.zeros((stop - start, 1), numpy.int16) if grid.zeros is None else grid.zeros(start, stop)


def _worst_minimum(shape: tuple[int, ...], grid: Grid) -> float:
    worst = 0.0
    for start, stop in _ranges(shape):
        exact = _minimums(grid, start, stop).astype(numpy.float64)
        with numpy.errstate(over="ignore", invalid="ignore"):
            worst = max(worst, float(numpy.abs(exact.astype(numpy.float16) - exact).max()))
    return worst


def _grouped(steps: NDArray[Any]) -> NDArray[Any]:
    return steps.reshape(len(steps), -1, BLOCK)


def _of_blocks(grid: Grid, values: NDArray[Any], n_blocks: int) -> NDArray[numpy.uint8]:
    """Return uint8 [rows, blocks, 2]: the float16 of each block's group."""
    spread = numpy.repeat(values.astype("<f2"), grid.group_size // BLOCK, axis=1)[:, :n_blocks]
    return numpy.ascontiguousarray(spread).view(numpy.uint8).reshape(len(values), n_blocks, 2)


def _steps(grid: Grid, start: int, stop: int) -> NDArray[numpy.int16]:
    """Return int16 [rows, columns]: codes less the zero of their group."""
    codes = grid.codes(start, stop).astype(numpy.int16)
    steps: NDArray[numpy.int16] = (
        codes - numpy.repeat(_zeros(grid, start, stop), grid.group_size, axis=1)[:, : codes.shape[1]]
    )
    return steps


def _nibbles(blocks: NDArray[Any]) -> NDArray[numpy.uint8]:
    """Return uint8 [rows, blocks, 16]: element j in the low nibble, j + 16 in the high one."""
    codes = blocks.astype(numpy.uint8) & numpy.uint8(15)
    packed: NDArray[numpy.uint8] = codes[..., : BLOCK // 2] | codes[..., BLOCK // 2 :] << numpy.uint8(4)
    return packed


def _q4_0_blocks(grid: Grid, start: int, stop: int) -> Bytes:
    blocks = _grouped(_steps(grid, start, stop) + 8)
    scales = _of_blocks(grid, grid.scales(start, stop), blocks.shape[1])
    return numpy.concatenate([scales, _nibbles(blocks)], axis=2)


def _q4_1_blocks(grid: Grid, start: int, stop: int) -> Bytes:
    blocks = _grouped(grid.codes(start, stop))
    return numpy.concatenate([*_affine(grid, start, stop, blocks.shape[1]), _nibbles(blocks)], axis=2)


def _q5_1_blocks(grid: Grid, start: int, stop: int) -> Bytes:
    """Return blocks whose fifth bits stand together, that of element j in bit j, before the nibbles."""
    blocks = _grouped(grid.codes(start, stop))
    fifth_bits = numpy.packbits(blocks >> 4, axis=2, bitorder="little")
    return numpy.concatenate([*_affine(grid, start, stop, blocks.shape[1]), fifth_bits, _nibbles(blocks)], axis=2)


def _affine(grid: Grid, start: int, stop: int, n_blocks: int) -> tuple[Bytes, Bytes]:
    """Return the scales and the minimums of blocks."""
    scales, minimums = grid.scales(start, stop), _minimums(grid, start, stop)
    return _of_blocks(grid, scales, n_blocks), _of_blocks(grid, minimums, n_blocks)


def _q8_0_blocks(grid: Grid, start: int, stop: int) -> Bytes:
    blocks = _grouped(_steps(grid, start, stop).astype(numpy.int8))
    scales = _of_blocks(grid, grid.scales(start, stop), blocks.shape[1])
    return numpy.concatenate([scales, numpy.ascontiguousarray(blocks).view(numpy.uint8)], axis=2)
