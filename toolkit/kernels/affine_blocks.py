"""Quant blocks of Q4_K and Q5_K made of sub-blocks: their scales and minima become 6 bits each, then all is packed.

Source: `quantize_row_q4_K_ref`, `quantize_row_q4_K_impl`, `quantize_row_q5_K_ref` and `make_qp_quants` in
ggml/src/ggml-quants.c of llama.cpp.
"""

from typing import NamedTuple

import numpy

from toolkit.gguf.ggml_types import TensorType
from toolkit.kernels.compiling import ZERO, Bytes, Floats, compiled, inlined, nearest_int

SUB_BLOCKS = 8
LARGEST = numpy.float32(63.0)
NOTHING = numpy.float32(1e-15)
"""magnitudes below are taken for zeros (`GROUP_MAX_EPS`)"""
_TRIALS = numpy.float32(0.1) * numpy.array([trial for trial in range(-4, 5) if trial], numpy.float32) + LARGEST
_PASSES = 5


@compiled
def plain_scales(searched: Floats, small: Bytes, steps: Floats) -> None:
    """Write values searched [2, n, 8] in 63rds of the largest of their block into small [2, n, 8], and these into steps [2, n]."""
    for part in range(2):
        for block in range(searched.shape[1]):
            largest = ZERO
            for j in range(SUB_BLOCKS):
                largest = max(largest, searched[part, block, j])
            inverse = LARGEST / largest if largest > ZERO else ZERO
            for j in range(SUB_BLOCKS):
                # A scale below zero wraps round in eight bits before it is cut, as in C.
                small[part, block, j] = min(
                    numpy.uint8(63), numpy.uint8(nearest_int(inverse * searched[part, block, j]))
                )
            steps[part, block] = largest / LARGEST


@compiled
def weighted_scales(searched: Floats, weights: Floats, small: Bytes, steps: Floats) -> None:
    """Write the same for errors that count as weights [n, 8] say."""
    for part in range(2):
        for block in range(searched.shape[1]):
            values, numbers = searched[part, block], small[part, block]
            largest = ZERO
            for j in range(SUB_BLOCKS):
                largest = max(largest, values[j])
            numbers[:] = 0
            steps[part, block] = ZERO
            if largest >= NOTHING:
                inverse = _best_inverse(values, weights[block], largest, numbers)
                steps[part, block] = _refined(values, weights[block], inverse, numbers)


@inlined
def _best_inverse(values: Floats, weights: Floats, largest: numpy.float32, numbers: Bytes) -> numpy.float32:
    """Return the factor, of those around 63 to the largest, whose numbers err least."""
    best = LARGEST / largest
    scale, least = numpy.float32(1.0) / best, ZERO
    for j in range(SUB_BLOCKS):
        numbers[j] = numpy.uint8(nearest_int(best * values[j]))
        difference = values[j] - scale * numpy.float32(numbers[j])
        least += weights[j] * difference * difference
    for trial in _TRIALS:
        inverse = trial / largest
        scale, error = numpy.float32(1.0) / inverse, ZERO
        for j in range(SUB_BLOCKS):
            difference = values[j] - scale * numpy.float32(_cut(nearest_int(inverse * values[j])))
            error += weights[j] * difference * difference
        if error < least:
            least, best = error, inverse
    return best


@inlined
def _refined(values: Floats, weights: Floats, inverse: numpy.float32, numbers: Bytes) -> numpy.float32:
    """Write the numbers that this factor gives, change one after the other while that helps, and return their step."""
    sum_xl, sum_l2 = ZERO, ZERO
    for j in range(SUB_BLOCKS):
        number = _cut(nearest_int(inverse * values[j]))
        numbers[j] = numpy.uint8(number)
        sum_xl += weights[j] * values[j] * numpy.float32(number)
        sum_l2 += weights[j] * numpy.float32(number) * numpy.float32(number)
    for _ in range(_PASSES):
        changed = False
        for j in range(SUB_BLOCKS):
            weight, value, old = weights[j], values[j], numpy.float32(numbers[j])
            rest_xl, rest_l2 = sum_xl - weight * value * old, sum_l2 - weight * old * old
            if rest_xl > ZERO and rest_l2 > ZERO:
                number = _cut(nearest_int(value * rest_l2 / rest_xl))
                if number != numbers[j]:
                    rest_xl += weight * value * numpy.float32(number)
                    rest_l2 += weight * numpy.float32(number) * numpy.float32(number)
                    if rest_xl * rest_xl * sum_l2 > sum_xl * sum_xl * rest_l2:
                        numbers[j], sum_xl, sum_l2 = numpy.uint8(number), rest_xl, rest_l2
                        changed = True
        if not changed:
            break
    return sum_xl / sum_l2 if sum_l2 > ZERO else ZERO


@inlined
def _cut(number: numpy.int32) -> numpy.int32:
    return min(numpy.int32(63), number)


SUB_BLOCK = 32
BLOCK = SUB_BLOCK * SUB_BLOCKS
_SCALES, _CODES = 4, 16
"""where they begin in a block, after two float16"""
FOUR_BITS = 15


class Blocks(NamedTuple):
    """What is packed of n blocks: weights [n, 256], the results of the search for sub-blocks [5, n, 8], their scales and minima.

    The latter are numbers of 6 bits [2, n, 8], and the steps that they count, as a float16 can hold them [2, n].
    """

    x: Floats
    searched: Floats
    small: Bytes
    steps: Floats


def pack(values: Floats, searched: Floats, type_: TensorType, top: int, *, weighted: bool) -> Bytes:
    """Return uint8 [n, row bytes] for float32 [n, row length], with the results of the search for every sub-block: float32 [5, sub-blocks].

    These are its scale, its minimum with the sign turned, factor and offset of its codes, which count where the scale of
    the block leaves it none, and the sum of its weights, which counts if it was `weighted`.
    """
    x, searched = values.reshape(-1, BLOCK), searched.reshape(5, -1, SUB_BLOCKS)
    small, steps = numpy.empty((2, len(x), SUB_BLOCKS), numpy.uint8), numpy.empty((2, len(x)), numpy.float32)
    if weighted:
        weighted_scales(searched[:2], searched[4], small, steps)
        if top != FOUR_BITS:
            # What wrapped round below zero is cut here, while Q4_K takes the lower 6 bits of it.
            numpy.minimum(small, numpy.uint8(LARGEST), out=small)
    else:
        plain_scales(searched[:2], small, steps)
    # The conversion to float16 is numpy's, because numba has none.
    halves = steps.astype(numpy.float16)
    result = numpy.empty((len(x), type_.block_bytes), numpy.uint8)
    result[:, :_SCALES] = numpy.ascontiguousarray(halves.T).view(numpy.uint8)
    _pack(Blocks(x, searched, small, halves.astype(numpy.float32)), numpy.int32(top), result)
    return result.reshape(len(values), -1)


@compiled
def _pack(blocks: Blocks, top: numpy.int32, result: Bytes) -> None:
    codes = numpy.empty(BLOCK, numpy.uint8)
    for block in range(len(blocks.x)):
        _pack_scales(blocks.small[:, block], result[block, _SCALES:_CODES])
        _round_weights(blocks, block, top, codes)
        if top == FOUR_BITS:
            _pack_low_bits(codes, result[block, _CODES:])
        else:
            _pack_fifth_bits(codes, result[block, _CODES:])
            _pack_low_bits(codes, result[block, _CODES + SUB_BLOCK :])


@inlined
def _round_weights(blocks: Blocks, block: int, top: numpy.int32, codes: Bytes) -> None:
    """Write the codes of all weights of a block, 0 to `top`."""
    for j in range(SUB_BLOCKS):
        start = j * SUB_BLOCK
        scale = blocks.steps[0, block] * numpy.float32(blocks.small[0, block, j])
        if scale == ZERO:
            # The result of the search counts where the block's scale leaves a sub-block none.
            factor, low = blocks.searched[2, block, j], blocks.searched[3, block, j]
            for i in range(start, start + SUB_BLOCK):
                codes[i] = max(numpy.int32(0), min(top, nearest_int(factor * (blocks.x[block, i] - low))))
        else:
            minimum = blocks.steps[1, block] * numpy.float32(blocks.small[1, block, j])
            for i in range(start, start + SUB_BLOCK):
                codes[i] = max(numpy.int32(0), min(top, nearest_int((blocks.x[block, i] + minimum) / scale)))


@inlined
def _pack_scales(small: Bytes, result: Bytes) -> None:
    """Write eight scales and eight minima of 6 bits as 12 bytes, and leave of them what can be read there.

    A number that wrapped round below zero has more than 6 bits.
    """
    for j in range(4):
        result[j] = small[0, j] | (small[0, j + 4] >> 4) << 6
        result[j + 4] = small[1, j] | (small[1, j + 4] >> 4) << 6
        result[j + 8] = (small[0, j + 4] & 15) | (small[1, j + 4] & 15) << 4
    for part in range(2):
        for j in range(4):
            small[part, j + 4] = (result[j + 8] >> 4 * part & 15) | (result[4 * part + j] >> 6) << 4
            small[part, j] = result[4 * part + j] & 63


@inlined
def _pack_low_bits(codes: Bytes, result: Bytes) -> None:
    """Write the lower four bits of codes that are 32 apart in pairs."""
    for pair in range(BLOCK // 64):
        for i in range(32):
            result[32 * pair + i] = (codes[64 * pair + i] & 15) | (codes[64 * pair + 32 + i] & 15) << 4


@inlined
def _pack_fifth_bits(codes: Bytes, result: Bytes) -> None:
    """Write the fifth bits of codes that are 32 apart in one byte."""
    for i in range(SUB_BLOCK):
        high = 0
        for part in range(SUB_BLOCKS):
            high |= (codes[SUB_BLOCK * part + i] >> 4) << part
        result[i] = high
