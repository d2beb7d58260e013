"""The fields of quant blocks: nothing is lost on the way out of the bytes and back, and values are ggml's."""

import numpy
import pytest

from toolkit.gguf.ggml_types import TYPES
from toolkit.kernels.quant_fields import joined, values_of
from toolkit.kernels.quant_formats import FORMATS
from toolkit.llama import quantizer


def blocks_of(name: str, *, made_by: str):
    type_ = TYPES[name]
    draw = numpy.random.default_rng(5)
    if made_by == "ggml":
        rows = (draw.standard_normal((40, 512)) * numpy.exp(draw.normal(size=(40, 1)))).astype(numpy.float32)
        return quantizer.from_float32(rows, type_, draw.exponential(1.0, 512).astype(numpy.float32))
    return draw.integers(0, 256, (40, type_.row_bytes(512)), numpy.uint8)


@pytest.mark.parametrize("made_by", ["ggml", "chance"])
@pytest.mark.parametrize("name", FORMATS)
def test_bytes_come_back_as_they_were(name, made_by):
    stored = blocks_of(name, made_by=made_by)
    back = FORMATS[name].put_together(FORMATS[name].take_apart(stored))
    halves = numpy.isnan(FORMATS[name].take_apart(stored).d) | numpy.isnan(FORMATS[name].take_apart(stored).dmin)
    whole = ~halves.any(1)
    assert whole.sum() > 5
    assert numpy.array_equal(back[whole], stored[whole])


@pytest.mark.parametrize("name", FORMATS)
def test_values_are_those_of_ggml_bit_for_bit(name):
    stored = blocks_of(name, made_by="ggml")
    expected = quantizer.to_float32(stored, TYPES[name])
    assert numpy.array_equal(values_of(FORMATS[name], FORMATS[name].take_apart(stored)), expected)


@pytest.mark.parametrize("name", FORMATS)
def test_the_format_has_the_sizes_of_the_type(name):
    format_, type_ = FORMATS[name], TYPES[name]
    assert (format_.block_length, format_.block_bytes) == (type_.block_length, type_.block_bytes)
    assert list(format_.levels) == sorted(format_.levels)


def test_columns_quantized_in_parts_are_joined_and_chosen_rows_exchanged():
    format_, type_ = FORMATS["Q4_K"], TYPES["Q4_K"]
    draw = numpy.random.default_rng(6)
    rows = draw.standard_normal((4, 512)).astype(numpy.float32)
    halves = [format_.take_apart(quantizer.from_float32(rows[:, at : at + 256].copy(), type_)) for at in (0, 256)]
    whole = joined(halves)
    assert numpy.array_equal(format_.put_together(whole), quantizer.from_float32(rows, type_))
    other = format_.take_apart(quantizer.from_float32(-rows, type_))
    whole.put(numpy.array([True, False, False, True]), other)
    values = values_of(format_, whole)
    assert (values[0] * rows[0]).sum() < 0 < (values[1] * rows[1]).sum()
