"""IQ4_NL and IQ4_XS: sub-blocks of 32 weights, each with a scale, and codes for sixteen values that are denser around zero.

Source: `quantize_row_iq4_nl_impl` and `best_index_int8` in ggml/src/ggml-quants.c of llama.cpp. The order of every sum is
the one there.
"""

import numpy

from toolkit.gguf.ggml_types import TensorType
from toolkit.kernels import Kernel
from toolkit.kernels.compiling import (
    LANES,
    ZERO,
    Bytes,
    Floats,
    compiled,
    inlined,
    load_lanes,
    nearest_int,
)
from toolkit.kernels.scale_search import (
    Lanes,
    divided,
    error_weights,
    find_extreme,
    new_lanes,
    of_largest_magnitude,
    take_better,
    take_first,
    weigh_by_squares,
)

SUB_BLOCK = 32
VALUES = numpy.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], numpy.float32)
"""`kvalues_iq4nl`"""
MIDDLES = (VALUES[:-1] + VALUES[1:]) / numpy.float32(2)
"""From here on the next value is nearer, or as near; all of this is exact in float32."""
_TRIALS = VALUES[0] + numpy.arange(-7, 8, dtype=numpy.float32)
_SUB_BLOCKS = 8
"""of a block of IQ4_XS"""


def kernel(type_: TensorType) -> Kernel:
    """Return the function that quantizes rows to IQ4_NL or IQ4_XS."""

    def quantize(values: Floats, importance: Floats | None = None) -> Bytes:
        x = values.reshape(-1, SUB_BLOCK)
        weights = error_weights(values, importance, type_.block_length).reshape(-1, SUB_BLOCK)
        scales = numpy.empty(len(x), numpy.float32)
        _search(x, weights, scales)
        result = numpy.empty((values.size // type_.block_length, type_.block_bytes), numpy.uint8)
        (_pack_single if type_.block_length == SUB_BLOCK else _pack_several)(x, scales, result)
        return result.reshape(len(values), -1)

    return quantize


def _pack_single(x: Floats, scales: Floats, result: Bytes) -> None:
    """Write the blocks of IQ4_NL, whose sub-blocks have a float16 each."""
    result[:, :2] = scales.astype(numpy.float16)[:, None].view(numpy.uint8)
    _pack_codes(x, divided(1, scales), result[:, 2:])


def _pack_several(x: Floats, scales: Floats, result: Bytes) -> None:
    """Write the blocks of IQ4_XS, whose sub-blocks share a float16 and have 6 bits each."""
    scales = scales.reshape(-1, _SUB_BLOCKS)
    steps = -of_largest_magnitude(scales) / numpy.float32(32)
    inverse = numpy.empty(scales.shape, numpy.float32)
    result[:, :2] = steps.astype(numpy.float16)[:, None].view(numpy.uint8)
    _share_scales(scales, steps, inverse, result[:, 2:8])
    _pack_codes(x, inverse.reshape(-1), result[:, 8:])


@compiled
def _search(x: Floats, weights: Floats, scales: Floats) -> None:
    """Write the scale of every row of x [n, 32], whose errors count as `weights` say, or else as squares do."""
    lanes = new_lanes(SUB_BLOCK)
    for start in range(0, len(x), LANES):
        count = load_lanes(x, start, lanes.x)
        if len(weights):
            load_lanes(weights, start, lanes.w)
        else:
            weigh_by_squares(lanes)
        find_extreme(lanes)
        for k in range(LANES):
            lanes.factor[k] = numpy.float32(1.0) / (-lanes.extreme[k] / VALUES[0])
        _fit(lanes)
        take_first(lanes)
        for trial in range(len(_TRIALS)):
            for k in range(LANES):
                lanes.factor[k] = _TRIALS[trial] / lanes.extreme[k]
            _fit(lanes)
            take_better(lanes)
        for k in range(count):
            scales[start + k] = lanes.scale[k]


@inlined
def _fit(lanes: Lanes) -> None:
    """Sum the products that say how well the values of this factor fit."""
    x, w, factor = lanes.x, lanes.w, lanes.factor
    for k in range(LANES):
        lanes.sum_xq[k] = lanes.sum_q2[k] = ZERO
    for i in range(SUB_BLOCK):
        for k in range(LANES):
            place, value = factor[k] * x[i, k], VALUES[0]
            for m in range(15):
                value = VALUES[m + 1] if place >= MIDDLES[m] else value
            weighted = w[i, k] * value
            lanes.sum_xq[k] += weighted * x[i, k]
            lanes.sum_q2[k] += weighted * value


@compiled
def _share_scales(scales: Floats, steps: Floats, inverse: Floats, result: Bytes) -> None:
    """Write scales [n, 8] in steps [n] with 6 bits each, and one over what they then are."""
    for block in range(len(scales)):
        step, high = steps[block], 0
        factor = numpy.float32(1.0) / step if step != ZERO else ZERO
        for j in range(_SUB_BLOCKS):
            number = max(-32, min(31, int(nearest_int(factor * scales[block, j]))))
            scale = step * numpy.float32(number)
            inverse[block, j] = numpy.float32(1.0) / scale if scale != ZERO else ZERO
            lifted = number + 32
            high |= (lifted >> 4) << 2 * j
            if j % 2:
                result[block, 2 + j // 2] |= (lifted & 15) << 4
            else:
                result[block, 2 + j // 2] = lifted & 15
        result[block, 0], result[block, 1] = high & 255, high >> 8


@compiled
def _pack_codes(x: Floats, inverse: Floats, result: Bytes) -> None:
    """Write the codes of sub-blocks x [n, 32] with these factors in pairs that are 16 apart."""
    codes = numpy.empty(SUB_BLOCK, numpy.uint8)
    per_block = len(x) // len(result)
    for sub_block in range(len(x)):
        factor = inverse[sub_block]
        for i in range(SUB_BLOCK):
            place, code = factor * x[sub_block, i], 0
            for m in range(15):
                # Zero times the infinite is not below anything: ggml's search ends at the last value then.
                code += not place < MIDDLES[m]
            codes[i] = code
        block, first = sub_block // per_block, 16 * (sub_block % per_block)
        for i in range(16):
            result[block, first + i] = codes[i] | codes[16 + i] << 4
