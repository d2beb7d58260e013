"""Q4_K and Q5_K: sub-blocks of 32 weights, each with a scale and a minimum of 6 bits.

Source: `make_qkx2_quants`, `quantize_row_q4_K_ref` and `quantize_row_q5_K_ref` in ggml/src/ggml-quants.c of llama.cpp, and
with an importance matrix `make_qkx3_quants`, `quantize_row_q4_K_impl` and `quantize_row_q5_K_impl`. The order of every sum
is the one there.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy

from toolkit.gguf.ggml_types import TensorType
from toolkit.kernels import Kernel
from toolkit.kernels.affine_blocks import BLOCK, SUB_BLOCK, pack
from toolkit.kernels.compiling import (
    LANES,
    LARGEST_ROUNDED,
    ONE,
    UNROLL,
    ZERO,
    Bytes,
    Floats,
    compiled,
    inlined,
    load_lanes,
    nearest,
)
from toolkit.kernels.scale_search import error_weights


@dataclass(frozen=True)
class Search:
    """The codes are 0 to `top`; tried are scales that give the range of the weights top + first, + step, ... codes."""

    top: int
    first: float
    step: float
    n_steps: int

    @property
    def spans(self) -> Floats:
        """Return the codes that the range is given by each trial: float32 [n_steps + 1], rounded as ggml rounds them."""
        count = numpy.arange(self.n_steps + 1, dtype=numpy.float32)
        return numpy.float32(self.first) + numpy.float32(self.step) * count + numpy.float32(self.top)


_PLAIN = {"Q4_K": Search(15, -1.0, 0.1, 20), "Q5_K": Search(31, -0.5, 0.1, 15)}
_WEIGHTED = {"Q4_K": Search(15, -0.9, 0.05, 36), "Q5_K": Search(31, -0.9, 0.05, 36)}


class Lanes(NamedTuple):
    """A sub-block a lane: weights, their importance and trial codes [32, LANES]; all else [LANES]."""

    x: Floats
    w: Floats
    codes: Floats
    first_low: Floats
    low: Floats
    high: Floats
    sum_w: Floats
    sum_x: Floats
    sum_l: Floats
    sum_l2: Floats
    sum_xl: Floats
    factor: Floats
    trial_scale: Floats
    trial_low: Floats
    error: Floats
    best_error: Floats
    best_factor: Floats
    best_low: Floats
    scale: Floats


def kernel(type_: TensorType) -> Kernel:
    """Return the function that quantizes rows to Q4_K or Q5_K."""

    def quantize(values: Floats, importance: Floats | None = None) -> Bytes | None:
        weighted = importance is not None
        search = (_WEIGHTED if weighted else _PLAIN)[type_.name]
        sub_blocks = values.reshape(-1, SUB_BLOCK)
        weights = error_weights(values, importance, BLOCK).reshape(-1, SUB_BLOCK)
        searched = numpy.empty((5, len(sub_blocks)), numpy.float32)
        if not _search(sub_blocks, weights, numpy.float32(search.top), search.spans, searched):
            return None
        return pack(values, searched, type_, search.top, weighted=weighted)

    return quantize


@compiled
def _search(x: Floats, weights: Floats, top: numpy.float32, spans: Floats, searched: Floats) -> bool:
    """Write scale, -minimum, factor and offset of the best codes, and sum of weights of every row of x [n, 32] into `searched` [5, n].

    Where there are no `weights` [n, 32], magnitudes are taken for them.
    Return False if a lane left the numbers that `nearest` rounds as ggml does.
    """
    lanes = _new_lanes()
    sound = True
    for start in range(0, len(x), LANES):
        count = load_lanes(x, start, lanes.x)
        if len(weights):
            load_lanes(weights, start, lanes.w)
        else:
            _weigh(lanes)
        _sum(lanes)
        _begin(lanes, top)
        for trial in range(len(spans)):
            sound &= _fit(lanes, spans[trial], top)
            _judge(lanes)
        for k in range(count):
            searched[0, start + k] = lanes.scale[k]
            searched[1, start + k] = -lanes.low[k]
            searched[2, start + k] = lanes.best_factor[k]
            searched[3, start + k] = lanes.best_low[k]
            searched[4, start + k] = lanes.sum_w[k]
    return sound


@inlined
def _new_lanes() -> Lanes:
    """Return new lanes; allocated where they are used, so that the compiler knows that no two arrays overlap."""
    return Lanes(
        numpy.empty((SUB_BLOCK, LANES), numpy.float32),
        numpy.empty((SUB_BLOCK, LANES), numpy.float32),
        numpy.empty((SUB_BLOCK, LANES), numpy.float32),
        numpy.empty(LANES, numpy.float32),
        numpy.empty(LANES, numpy.float32),
        numpy.empty(LANES, numpy.float32),
        numpy.empty(LANES, numpy.float32),
        numpy.empty(LANES, numpy.float32),
        numpy.empty(LANES, numpy.float32),
        numpy.empty(LANES, numpy.float32),
        numpy.empty(LANES, numpy.float32),
        numpy.empty(LANES, numpy.float32),
        numpy.empty(LANES, numpy.float32),
        numpy.empty(LANES, numpy.float32),
        numpy.empty(LANES, numpy.float32),
        numpy.empty(LANES, numpy.float32),
        numpy.empty(LANES, numpy.float32),
        numpy.empty(LANES, numpy.float32),
        numpy.empty(LANES, numpy.float32),
    )


@inlined
def _weigh(lanes: Lanes) -> None:
    """Weigh the errors: by the root of the mean square and by the magnitude."""
    x, w, sum_x = lanes.x, lanes.w, lanes.sum_x
    for k in range(LANES):
        sum_x[k] = ZERO
    for i in range(SUB_BLOCK):
        for k in range(LANES):
            sum_x[k] += x[i, k] * x[i, k]
    for k in range(LANES):
        sum_x[k] = numpy.sqrt(sum_x[k] / numpy.float32(SUB_BLOCK))
    for i in range(SUB_BLOCK):
        for k in range(LANES):
            w[i, k] = sum_x[k] + abs(x[i, k])


@inlined
def _sum(lanes: Lanes) -> None:
    """Take bounds and first sums."""
    x, w, low, high, sum_w, sum_x = lanes.x, lanes.w, lanes.first_low, lanes.high, lanes.sum_w, lanes.sum_x
    for k in range(LANES):
        low[k] = high[k] = x[0, k]
        sum_w[k] = w[0, k]
        sum_x[k] = w[0, k] * x[0, k]
    for i in range(1, SUB_BLOCK):
        for k in range(LANES):
            low[k] = x[i, k] if x[i, k] < low[k] else low[k]
            high[k] = x[i, k] if x[i, k] > high[k] else high[k]
            sum_w[k] += w[i, k]
            sum_x[k] += w[i, k] * x[i, k]


@inlined
def _begin(lanes: Lanes, top: numpy.float32) -> None:
    """Start from the codes that span the whole range."""
    x, w, low, factor, scale, error = lanes.x, lanes.w, lanes.low, lanes.factor, lanes.scale, lanes.best_error
    for k in range(LANES):
        lanes.first_low[k] = low[k] = ZERO if lanes.first_low[k] > ZERO else lanes.first_low[k]
        flat = lanes.high[k] == low[k]
        # Equal weights need no scale, and no trial is better than none.
        factor[k] = ZERO if flat else top / (lanes.high[k] - low[k])
        scale[k] = ZERO if flat else ONE / factor[k]
        error[k] = -ONE if flat else ZERO
        lanes.best_factor[k] = factor[k]
        lanes.best_low[k] = low[k]
    for i in range(SUB_BLOCK):
        for k in range(LANES):
            difference = scale[k] * nearest(factor[k] * (x[i, k] - low[k]), ZERO, top) + low[k] - x[i, k]
            error[k] += w[i, k] * (difference * difference)


@inlined
def _fit(lanes: Lanes, span: numpy.float32, top: numpy.float32) -> bool:
    """Give every lane codes for this span, and the scale and minimum that suit them best."""
    x, w, codes, low, factor = lanes.x, lanes.w, lanes.codes, lanes.low, lanes.factor
    sound = True
    for k in range(LANES):
        width = lanes.high[k] - low[k]
        factor[k] = span / width
        reach = abs(factor[k]) * max(abs(width), abs(lanes.first_low[k] - low[k]))
        sound &= reach <= LARGEST_ROUNDED or width == ZERO
        lanes.sum_l[k] = lanes.sum_l2[k] = lanes.sum_xl[k] = ZERO
    for i in range(0, SUB_BLOCK, UNROLL):
        for k in range(LANES):
            sum_l, sum_l2, sum_xl = lanes.sum_l[k], lanes.sum_l2[k], lanes.sum_xl[k]
            for j in range(UNROLL):
                value = x[i + j, k]
                code = nearest(factor[k] * (value - low[k]), ZERO, top)
                codes[i + j, k] = code
                weighted = w[i + j, k] * code
                sum_l += weighted
                sum_l2 += weighted * code
                sum_xl += weighted * value
            lanes.sum_l[k], lanes.sum_l2[k], lanes.sum_xl[k] = sum_l, sum_l2, sum_xl
    for k in range(LANES):
        sum_l, sum_l2, sum_xl = lanes.sum_l[k], lanes.sum_l2[k], lanes.sum_xl[k]
        determinant = lanes.sum_w[k] * sum_l2 - sum_l * sum_l
        scale = (lanes.sum_w[k] * sum_xl - lanes.sum_x[k] * sum_l) / determinant
        minimum = (sum_l2 * lanes.sum_x[k] - sum_l * sum_xl) / determinant
        lanes.trial_scale[k] = sum_xl / sum_l2 if minimum > ZERO else scale
        lanes.trial_low[k] = ZERO if minimum > ZERO else minimum
        # Codes that are all the same decide nothing, so they must not win.
        lanes.error[k] = ZERO if determinant > ZERO else numpy.float32(numpy.inf)
    return sound


@inlined
def _judge(lanes: Lanes) -> None:
    """Keep what is better than the best before."""
    x, w, codes, low, error = lanes.x, lanes.w, lanes.codes, lanes.low, lanes.error
    for i in range(0, SUB_BLOCK, UNROLL):
        for k in range(LANES):
            scale, minimum, total = lanes.trial_scale[k], lanes.trial_low[k], error[k]
            for j in range(UNROLL):
                difference = scale * codes[i + j, k] + minimum - x[i + j, k]
                total += w[i + j, k] * (difference * difference)
            error[k] = total
    for k in range(LANES):
        better = error[k] < lanes.best_error[k]
        lanes.best_error[k] = error[k] if better else lanes.best_error[k]
        lanes.scale[k] = lanes.trial_scale[k] if better else lanes.scale[k]
        lanes.best_factor[k] = lanes.factor[k] if better else lanes.best_factor[k]
        lanes.best_low[k] = low[k] if better else lanes.best_low[k]
        # The next trial measures from the new minimum.
        low[k] = lanes.trial_low[k] if better else low[k]
