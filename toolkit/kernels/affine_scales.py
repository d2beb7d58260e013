"""The scales and minima of sub-blocks in 6 bits each, with a step for both: between search and packing of Q4_K and Q5_K.

Source: `quantize_row_q4_K_ref`, `quantize_row_q4_K_impl` and `make_qp_quants` in ggml/src/ggml-quants.c of llama.cpp.
"""

import numpy

from toolkit.kernels.compiling import ZERO, Bytes, Floats, compiled, inlined, nearest_int

SUB_BLOCKS = 8
LARGEST = numpy.float32(63.0)
NOTHING = numpy.float32(1e-15)
"""magnitudes below are taken for zeros (`GROUP_MAX_EPS`)"""
_TRIALS = numpy.float32(0.1) * numpy.array([trial for trial in range(-4, 5) if trial], numpy.float32) + LARGEST
_PASSES = 5


@compiled
def plain_scales(found: Floats, small: Bytes, steps: Floats) -> None:
    """Write values found [2, n, 8] in 63rds of the largest of their block into small [2, n, 8], and these into steps [2, n]."""
    for part in range(2):
        for block in range(found.shape[1]):
            largest = ZERO
            for j in range(SUB_BLOCKS):
                largest = max(largest, found[part, block, j])
            inverse = LARGEST / largest if largest > ZERO else ZERO
            for j in range(SUB_BLOCKS):
                # A scale below zero wraps round in eight bits before it is cut, as in C.
                small[part, block, j] = min(numpy.uint8(63), numpy.uint8(nearest_int(inverse * found[part, block, j])))
            steps[part, block] = largest / LARGEST


@compiled
def weighted_scales(found: Floats, weights: Floats, small: Bytes, steps: Floats) -> None:
    """Write the same for errors that count as weights [n, 8] say."""
    for part in range(2):
        for block in range(found.shape[1]):
            values, numbers = found[part, block], small[part, block]
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
