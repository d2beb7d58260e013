"""What only few blocks reach: the last pass over their scales, and scales below zero."""

import numpy
import pytest

from toolkit.gguf.ggml_types import tensor_type
from toolkit.kernels import load_kernel
from toolkit.kernels.affine_blocks import plain_scales
from toolkit.llama import quantizer

TYPES = ("Q4_K", "Q5_K")


@pytest.fixture(params=TYPES)
def type_(request):
    return tensor_type(request.param)


def assert_ggmls(rows, type_, importance):
    found = load_kernel(type_)(rows, importance)
    numpy.testing.assert_array_equal(found, quantizer.from_float32(rows, type_, importance))


def test_where_sub_blocks_matter_very_differently_the_last_pass_over_their_scales_is_ggmls(type_):
    # One block in 400 changes in the last of five passes, one in 800 would in a sixth.
    random = numpy.random.default_rng(12)
    rows = random.standard_normal((200, 256, 32)) * random.standard_normal((200, 256, 1))
    of_sub_blocks = numpy.exp(3 * random.standard_normal(8192 // 32)).clip(max=16384)
    importance = of_sub_blocks.repeat(32).astype(numpy.float32)
    assert_ggmls(rows.astype(numpy.float32).reshape(200, 8192), type_, importance)


def test_where_equal_weights_alone_are_important_scales_below_zero_are_ggmls(type_):
    # A line through equal values has any slope that rounding gives it.
    random = numpy.random.default_rng(13)
    rows = random.standard_normal((2000, 8, 32)).astype(numpy.float32)
    important = random.random(32) < 0.3
    rows[:, :, important] = rows[:, :, important][:, :, :1]
    importance = numpy.tile(random.exponential(size=32) * important, 8).astype(numpy.float32)
    assert_ggmls(rows.reshape(2000, 256), type_, importance)


def test_a_scale_below_zero_wraps_round_in_eight_bits_before_it_is_cut():
    found = numpy.array([[[1, -1, -0.01, -0.004, 0, 0.004, 0.5, -4.2]], [[0] * 8]], numpy.float32)
    small, steps = numpy.zeros((2, 1, 8), numpy.uint8), numpy.zeros((2, 1), numpy.float32)
    plain_scales(found, small, steps)
    # As uint8: -63 is 193, -1 is 255, -265 is 247; all of them are above 63.
    assert small[0, 0].tolist() == [63, 63, 63, 0, 0, 0, 32, 63]
    assert small[1].max() == 0
    numpy.testing.assert_array_equal(steps, numpy.array([[1 / 63], [0]], numpy.float32))
