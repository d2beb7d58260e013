import numpy
import pytest
from gguf import GGMLQuantizationType, quants

from toolkit.gguf.ggml_types import BF16, F16, F32, Q8_0, TYPES
from toolkit.llama import quantizer

RANDOM = numpy.random.default_rng(1)
IN_NUMPY = ("F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "TQ1_0", "TQ2_0")
BY_WEIGHT = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "IQ3_S", "IQ3_XXS", "MXFP4")


def floats(rows=8, length=512):
    return RANDOM.standard_normal((rows, length), dtype=numpy.float32)


@pytest.mark.parametrize("name", IN_NUMPY)
def test_bytes_equal_those_of_the_gguf_library(name):
    values = floats()
    ours = quantizer.from_float32(values, TYPES[name])
    assert ours.tobytes() == quants.quantize(values, GGMLQuantizationType[name]).tobytes()


@pytest.mark.parametrize("name", [*IN_NUMPY, *BY_WEIGHT])
def test_dequantized_values_equal_those_of_the_gguf_library(name):
    stored = quantizer.from_float32(floats(), TYPES[name])
    ours = quantizer.to_float32(stored, TYPES[name])
    reference = quants.dequantize(stored, GGMLQuantizationType[name])
    numpy.testing.assert_allclose(ours, reference, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", BY_WEIGHT)
def test_more_error_is_allowed_where_the_importance_is_small(name):
    values = floats()
    importance = numpy.where(numpy.arange(512) % 2, 100.0, 0.01).astype(numpy.float32)
    with_matrix = quantizer.to_float32(quantizer.from_float32(values, TYPES[name], importance), TYPES[name])
    without = quantizer.to_float32(quantizer.from_float32(values, TYPES[name]), TYPES[name])

    def weighted(result):
        return float((importance * (result - values) ** 2).mean())

    if name == "MXFP4":
        # ggml has no use for importance in this type.
        assert weighted(with_matrix) == weighted(without)
    else:
        assert weighted(with_matrix) < weighted(without)


def test_rows_of_the_same_type_are_not_touched():
    rows = numpy.arange(64, dtype=numpy.uint8).reshape(2, 32)
    assert quantizer.convert_rows(rows, BF16, BF16) is rows


def test_bfloat16_rounds_to_even_and_keeps_signs_and_subnormals():
    values = numpy.array([[1.00390625, 1.01171875, -0.0, 1e-40, 3.4028e38]], dtype=numpy.float32)
    back = quantizer.to_float32(quantizer.convert_rows(values.view(numpy.uint8), F32, BF16), BF16)
    assert back[0, :2].tolist() == [1.0, 1.015625]
    assert numpy.signbit(back[0, 2])
    assert back[0, 3] != 0


def test_nan_and_infinity_are_found_in_floats_and_in_scales():
    good = floats(1, 32)
    assert quantizer.finite(good.view(numpy.uint8), F32)
    for bad in (numpy.nan, numpy.inf):
        values = good.copy()
        values[0, 7] = bad
        assert not quantizer.finite(values.view(numpy.uint8), F32)
    huge = numpy.full((1, 32), 1e8, dtype=numpy.float32)
    assert not quantizer.finite(quantizer.from_float32(huge, F16), F16)
    assert not quantizer.finite(quantizer.from_float32(huge, Q8_0), Q8_0)
