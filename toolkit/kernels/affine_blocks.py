"""Sub-blocks with scales and minima to blocks of Q4_K and Q5_K: the second half of their quantization.

Source: `quantize_row_q4_K_ref` and `quantize_row_q5_K_ref` in ggml/src/ggml-quants.c of llama.cpp.
"""

from typing import NamedTuple

import numpy

from toolkit.gguf.ggml_types import TensorType
from toolkit.kernels.compiling import MAGIC, ZERO, Bytes, Floats, compiled, inlined, whole_number

SUB_BLOCK, SUB_BLOCKS = 32, 8
BLOCK = SUB_BLOCK * SUB_BLOCKS
_SCALES, _CODES = 4, 16
"""where they begin in a block, after two float16"""
_LARGEST = numpy.float32(63.0)
FOUR_BITS = 15


class Blocks(NamedTuple):
    """What is packed of n blocks: weights [n, 256], what was found of sub-blocks [4, n, 8], largest scale and minimum [2, n].

    `halves` are the latter over 63, as the float16 that is stored can hold them.
    """

    x: Floats
    found: Floats
    largest: Floats
    halves: Floats


def pack(values: Floats, found: Floats, type_: TensorType, top: int) -> Bytes:
    """Return uint8 [n, row bytes] for float32 [n, row length], with what was found of every sub-block: float32 [4, sub-blocks].

    These are its scale, its minimum with the sign turned, and factor and offset of its codes, which count where the
    scale of the block leaves it none.
    """
    x, found = values.reshape(-1, BLOCK), found.reshape(4, -1, SUB_BLOCKS)
    largest = numpy.maximum(found[:2].max(axis=2), numpy.float32(0))
    # The conversion to float16 is numpy's, because numba has none.
    halves = (largest / _LARGEST).astype(numpy.float16)
    result = numpy.empty((len(x), type_.block_bytes), numpy.uint8)
    result[:, :_SCALES] = numpy.ascontiguousarray(halves.T).view(numpy.uint8)
    _pack(Blocks(x, found, largest, halves.astype(numpy.float32)), numpy.int32(top), result)
    return result.reshape(len(values), -1)


@compiled
def _pack(blocks: Blocks, top: numpy.int32, result: Bytes) -> None:
    shifted = numpy.empty(BLOCK, numpy.float32)
    codes, small = numpy.empty(BLOCK, numpy.uint8), numpy.empty((2, SUB_BLOCKS), numpy.uint8)
    for block in range(len(blocks.x)):
        _round_scales(blocks, block, shifted, small)
        _pack_scales(small, result[block, _SCALES:_CODES])
        _place_weights(blocks, block, small, shifted)
        bits = shifted.view(numpy.int32)
        for i in range(BLOCK):
            codes[i] = max(numpy.int32(0), min(top, whole_number(bits[i])))
        if top == FOUR_BITS:
            _pack_four_bits(codes, result[block, _CODES:])
        else:
            _pack_five_bits(codes, result[block, _CODES:])


@inlined
def _round_scales(blocks: Blocks, block: int, shifted: Floats, small: Bytes) -> None:
    """Write scales and minima in 63rds of the largest."""
    for part in range(2):
        largest = blocks.largest[part, block]
        inverse = _LARGEST / largest if largest > ZERO else ZERO
        for j in range(SUB_BLOCKS):
            shifted[j] = inverse * blocks.found[part, block, j] + MAGIC
        for j in range(SUB_BLOCKS):
            # A scale below zero wraps round in eight bits before it is cut, as in C.
            small[part, j] = min(numpy.uint8(63), numpy.uint8(whole_number(shifted.view(numpy.int32)[j])))


@inlined
def _place_weights(blocks: Blocks, block: int, small: Bytes, shifted: Floats) -> None:
    """Write where every weight lies on the grid of its sub-block, plus `MAGIC`."""
    for j in range(SUB_BLOCKS):
        start = j * SUB_BLOCK
        scale = blocks.halves[0, block] * numpy.float32(small[0, j])
        if scale == ZERO:
            # What the search found stays where the block's scale leaves a sub-block none.
            factor, low = blocks.found[2, block, j], blocks.found[3, block, j]
            for i in range(start, start + SUB_BLOCK):
                shifted[i] = factor * (blocks.x[block, i] - low) + MAGIC
        else:
            minimum = blocks.halves[1, block] * numpy.float32(small[1, j])
            for i in range(start, start + SUB_BLOCK):
                shifted[i] = (blocks.x[block, i] + minimum) / scale + MAGIC


@inlined
def _pack_scales(small: Bytes, result: Bytes) -> None:
    """Write eight scales and eight minima of 6 bits as 12 bytes."""
    for j in range(4):
        result[j] = small[0, j] | (small[0, j + 4] >> 4) << 6
        result[j + 4] = small[1, j] | (small[1, j + 4] >> 4) << 6
        result[j + 8] = (small[0, j + 4] & 15) | (small[1, j + 4] & 15) << 4


@inlined
def _pack_four_bits(codes: Bytes, result: Bytes) -> None:
    """Write pairs of codes that are 32 apart."""
    for pair in range(BLOCK // 64):
        for i in range(32):
            result[32 * pair + i] = codes[64 * pair + i] | codes[64 * pair + 32 + i] << 4


@inlined
def _pack_five_bits(codes: Bytes, result: Bytes) -> None:
    """Write the fifth bits of all codes, then the other four as `_pack_four_bits` does."""
    for i in range(32):
        high = 0
        for part in range(SUB_BLOCKS):
            high |= (codes[32 * part + i] >> 4) << part
        result[i] = high
    for pair in range(BLOCK // 64):
        for i in range(32):
            result[32 + 32 * pair + i] = (codes[64 * pair + i] & 15) | (codes[64 * pair + 32 + i] & 15) << 4
