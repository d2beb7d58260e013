"""Q6_K: sub-blocks of 16 weights, each with a scale of 8 bits, and codes from -32 to 31.

Source: `make_qx_quants`, `quantize_row_q6_K_ref` and `quantize_row_q6_K_impl` in ggml/src/ggml-quants.c of llama.cpp. The
order of every sum is the one there.
"""

from typing import NamedTuple

import numpy

from toolkit.gguf.ggml_types import TensorType
from toolkit.kernels import Kernel
from toolkit.kernels.compiling import (
    LANES,
    UNROLL,
    ZERO,
    Bytes,
    Floats,
    compiled,
    inlined,
    load_lanes,
    nearest,
    nearest_int,
)
from toolkit.kernels.scale_search import (
    NOTHING,
    Lanes,
    divided,
    find_extreme,
    new_lanes,
    of_largest_magnitude,
    take_better,
    take_first,
    weigh_by_squares,
)

SUB_BLOCK, SUB_BLOCKS = 16, 16
BLOCK = SUB_BLOCK * SUB_BLOCKS
LOWEST, HIGHEST = numpy.float32(-32.0), numpy.float32(31.0)
_HIGH, _SCALES, _HALF = 128, 192, 208
"""where the upper bits of the codes, the scales and the float16 begin in a block"""
_HALF_SPAN = numpy.float32(32.0)
_SPANS = _HALF_SPAN + numpy.float32(0.1) * numpy.array([trial for trial in range(-9, 10) if trial], numpy.float32)
"""the codes that the largest weight is given by each trial, rounded as ggml rounds them"""


class Blocks(NamedTuple):
    """What is packed of n blocks: weights [n, 256], the results of the search for sub-blocks [2, n, 16], and of blocks [n].

    `inverse` is -128 over the scale of the largest magnitude, 0 where there is none to speak of, and `halves` what the
    float16 that is stored holds of one over that.
    """

    x: Floats
    searched: Floats
    inverse: Floats
    halves: Floats


def kernel(_type: TensorType) -> Kernel:
    """Return the function that quantizes rows to Q6_K."""
    return _quantize


def _quantize(values: Floats, importance: Floats | None = None) -> Bytes:
    x = values.reshape(-1, BLOCK)
    searched = numpy.empty((2, len(x), SUB_BLOCKS), numpy.float32)
    weights = numpy.empty((0, SUB_BLOCK), numpy.float32) if importance is None else importance.reshape(-1, SUB_BLOCK)
    _search(x.reshape(-1, SUB_BLOCK), weights, searched.reshape(2, -1))
    largest = of_largest_magnitude(searched[0])
    inverse = divided(-128, numpy.where(numpy.abs(largest) < NOTHING, numpy.float32(0), largest))
    # The conversion to float16 is numpy's, because numba has none.
    halves = divided(1, inverse).astype(numpy.float16)
    result = numpy.empty((len(x), _HALF + 2), numpy.uint8)
    result[:, _HALF:] = halves[:, None].view(numpy.uint8)
    _pack(Blocks(x, searched, inverse, halves.astype(numpy.float32)), result)
    return result.reshape(len(values), -1)


@compiled
def _search(x: Floats, weights: Floats, searched: Floats) -> None:
    """Write scale, and factor of the best codes, of every row of x [n, 16] into `searched` [2, n].

    Errors count as `weights` say, which are those of the columns in rows that follow each other: [n of a row, 16]. Where
    there are none, squares are taken for them.
    """
    lanes, products = new_lanes(SUB_BLOCK), numpy.empty((SUB_BLOCK, LANES), numpy.float32)
    for start in range(0, len(x), LANES):
        count = load_lanes(x, start, lanes.x)
        _weigh(lanes, weights, start, products)
        find_extreme(lanes)
        for k in range(LANES):
            lanes.factor[k] = -_HALF_SPAN / lanes.extreme[k]
        _fit(lanes, products)
        take_first(lanes)
        for trial in range(len(_SPANS)):
            for k in range(LANES):
                lanes.factor[k] = -_SPANS[trial] / lanes.extreme[k]
            _fit(lanes, products)
            take_better(lanes)
        for k in range(count):
            searched[0, start + k] = lanes.scale[k]
            searched[1, start + k] = lanes.best_factor[k]


@inlined
def _weigh(lanes: Lanes, weights: Floats, start: int, products: Floats) -> None:
    """Weigh the errors, and multiply x with that once for all trials."""
    if len(weights):
        for k in range(LANES):
            column = (start + k) % len(weights)
            for i in range(SUB_BLOCK):
                lanes.w[i, k] = weights[column, i]
    else:
        weigh_by_squares(lanes)
    for i in range(SUB_BLOCK):
        for k in range(LANES):
            products[i, k] = lanes.w[i, k] * lanes.x[i, k]


@inlined
def _fit(lanes: Lanes, products: Floats) -> None:
    """Sum the products that say how well the codes of this factor fit."""
    x, factor = lanes.x, lanes.factor
    for k in range(LANES):
        lanes.sum_xq[k] = lanes.sum_q2[k] = ZERO
    for i in range(0, SUB_BLOCK, UNROLL):
        for k in range(LANES):
            sum_xq, sum_q2 = lanes.sum_xq[k], lanes.sum_q2[k]
            for j in range(UNROLL):
                code = nearest(factor[k] * x[i + j, k], LOWEST, HIGHEST)
                sum_xq += products[i + j, k] * code
                sum_q2 += lanes.w[i + j, k] * code * code
            lanes.sum_xq[k], lanes.sum_q2[k] = sum_xq, sum_q2


@compiled
def _pack(blocks: Blocks, result: Bytes) -> None:
    codes = numpy.empty(BLOCK, numpy.uint8)
    for block in range(len(blocks.x)):
        if blocks.inverse[block] == ZERO:
            result[block] = 0
            continue
        for j in range(SUB_BLOCKS):
            number = min(numpy.int32(127), nearest_int(blocks.inverse[block] * blocks.searched[0, block, j]))
            result[block, _SCALES + j] = numpy.uint8(number)
            _round_weights(blocks, (block, j), blocks.halves[block] * numpy.float32(number), codes)
        _pack_six_bits(codes, result[block])


@inlined
def _round_weights(blocks: Blocks, place: tuple[int, int], scale: numpy.float32, codes: Bytes) -> None:
    """Write the codes of a sub-block, whose place is (block, number in it)."""
    block, j = place
    start, factor = j * SUB_BLOCK, blocks.searched[1, block, j]
    if scale == ZERO:
        # The result of the search counts where the block's scale leaves a sub-block none. One of nothing has the code 0.
        lifted = numpy.int32(0) if factor == ZERO else numpy.int32(32)
        for i in range(start, start + SUB_BLOCK):
            codes[i] = _code(factor * blocks.x[block, i]) + lifted
    else:
        for i in range(start, start + SUB_BLOCK):
            codes[i] = _code(blocks.x[block, i] / scale) + numpy.int32(32)


@inlined
def _code(value: numpy.float32) -> numpy.int32:
    return max(numpy.int32(-32), min(numpy.int32(31), nearest_int(value)))


@inlined
def _pack_six_bits(codes: Bytes, result: Bytes) -> None:
    """Write the lower four bits of codes that are 64 apart in pairs, and the upper two of four that are 32 apart."""
    for half in range(2):
        low, high = 64 * half, _HIGH + 32 * half
        for i in range(32):
            first = 128 * half + i
            result[low + i] = (codes[first] & 15) | (codes[first + 64] & 15) << 4
            result[low + 32 + i] = (codes[first + 32] & 15) | (codes[first + 96] & 15) << 4
            result[high + i] = (
                codes[first] >> 4
                | (codes[first + 32] >> 4) << 2
                | (codes[first + 64] >> 4) << 4
                | (codes[first + 96] >> 4) << 6
            )
