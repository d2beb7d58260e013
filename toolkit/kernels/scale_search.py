"""The search for the scale of sub-blocks without a minimum, which starts from their weight of the largest magnitude.

Source: `make_qx_quants`, `quantize_row_iq4_nl_impl` and, for the weights of errors, `quantize_row_q4_K_impl` in
ggml/src/ggml-quants.c of llama.cpp.
"""

from typing import NamedTuple

import numpy

from toolkit.kernels.compiling import LANES, ZERO, Floats, compiled, inlined


def error_weights(values: Floats, importance: Floats | None, block: int) -> Floats:
    """Return float32 [n, row length] for as many values: the importance of the column times a magnitude; nothing without.

    The magnitude is the root of the square of the value and twice the mean of those of its block.
    """
    if importance is None:
        return numpy.empty((0, values.shape[1]), numpy.float32)
    weights = numpy.empty_like(values)
    shape = (len(values), -1, block)
    _weigh(values.reshape(shape), importance.reshape(-1, block), weights.reshape(shape))
    return weights


@compiled
def _weigh(x: Floats, importance: Floats, weights: Floats) -> None:
    """Write the weights of x [rows, blocks, length], for importance [blocks, length]."""
    length = x.shape[2]
    for row in range(len(x)):
        for block in range(len(importance)):
            total = ZERO
            for i in range(length):
                total += x[row, block, i] * x[row, block, i]
            spread = numpy.float32(2.0) * total / numpy.float32(length)
            for i in range(length):
                value = x[row, block, i]
                weights[row, block, i] = importance[block, i] * numpy.sqrt(spread + value * value)


NOTHING = numpy.float32(1e-15)
"""magnitudes below are taken for zeros (`GROUP_MAX_EPS`)"""


class Lanes(NamedTuple):
    """A sub-block a lane: x and weight of its error [length, LANES]; all else [LANES]."""

    x: Floats
    w: Floats
    extreme: Floats
    factor: Floats
    """of x, to come to what a code stands for"""
    sum_xq: Floats
    sum_q2: Floats
    """sums over w * x * q and w * q * q, where q is what the code stands for"""
    best: Floats
    best_factor: Floats
    scale: Floats


@inlined
def new_lanes(length: int) -> Lanes:
    """Return new lanes for sub-blocks of this length."""
    return Lanes(
        numpy.empty((length, LANES), numpy.float32),
        numpy.empty((length, LANES), numpy.float32),
        numpy.empty(LANES, numpy.float32),
        numpy.empty(LANES, numpy.float32),
        numpy.empty(LANES, numpy.float32),
        numpy.empty(LANES, numpy.float32),
        numpy.empty(LANES, numpy.float32),
        numpy.empty(LANES, numpy.float32),
        numpy.empty(LANES, numpy.float32),
    )


@inlined
def weigh_by_squares(lanes: Lanes) -> None:
    """Let errors count as the squares of weights, as ggml does without an importance matrix."""
    for i in range(len(lanes.x)):
        for k in range(LANES):
            lanes.w[i, k] = lanes.x[i, k] * lanes.x[i, k]


@inlined
def find_extreme(lanes: Lanes) -> None:
    """Find the weight of the largest magnitude, the first of several."""
    x, extreme = lanes.x, lanes.extreme
    for k in range(LANES):
        extreme[k] = ZERO
    for i in range(len(x)):
        for k in range(LANES):
            extreme[k] = x[i, k] if abs(x[i, k]) > abs(extreme[k]) else extreme[k]


@inlined
def take_first(lanes: Lanes) -> None:
    """Take the scale that follows from the first sums; of sub-blocks of nothing it is 0, whatever follows."""
    for k in range(LANES):
        some = abs(lanes.extreme[k]) >= NOTHING
        scale = lanes.sum_xq[k] / lanes.sum_q2[k]
        lanes.scale[k] = scale if some & (lanes.sum_q2[k] > ZERO) else ZERO
        # No score is above infinity.
        lanes.best[k] = lanes.scale[k] * lanes.sum_xq[k] if some else numpy.float32(numpy.inf)
        lanes.best_factor[k] = lanes.factor[k] if some else ZERO


@inlined
def take_better(lanes: Lanes) -> None:
    """Take the scale that follows from the sums where it is better than the best before."""
    for k in range(LANES):
        sum_xq, sum_q2 = lanes.sum_xq[k], lanes.sum_q2[k]
        better = (sum_q2 > ZERO) & (sum_xq * sum_xq > lanes.best[k] * sum_q2)
        scale = sum_xq / sum_q2
        lanes.scale[k] = scale if better else lanes.scale[k]
        lanes.best[k] = scale * sum_xq if better else lanes.best[k]
        lanes.best_factor[k] = lanes.factor[k] if better else lanes.best_factor[k]


def of_largest_magnitude(scales: Floats) -> Floats:
    """Return float32 [n]: of each block the scale of the largest magnitude, the first of several; scales are [n, sub-blocks]."""
    place = numpy.abs(scales).argmax(axis=1)[:, None]
    return numpy.take_along_axis(scales, place, axis=1)[:, 0]


def divided(numerator: float, values: Floats) -> Floats:
    """Return float32 of the shape of values: a number divided by each, and 0 for 0; infinite for the smallest, as in C."""
    result = numpy.zeros_like(values)
    with numpy.errstate(over="ignore"):
        numpy.divide(numpy.float32(numerator), values, out=result, where=values != 0)
    return result
