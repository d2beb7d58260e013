"""Our kernels against ggml's own functions: every byte."""

import sys

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from toolkit import kernels
from toolkit.gguf.ggml_types import tensor_type
from toolkit.kernels import affine, load_kernel, symmetric
from toolkit.llama import quantizer

TYPES = ("Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS")
SHAPE = (24, 1024)
MANY = 1 << 40


def random_rows(scale=0.02):
    return (numpy.random.default_rng(7).standard_normal(SHAPE) * scale).astype(numpy.float32)


def with_outliers():
    rows = random_rows()
    rows.reshape(-1)[::997] *= 200
    return rows


def with_zeros():
    rows = random_rows()
    rows[:, :256] = 0
    rows[:, 256:272] = 0
    rows[:, 300:600:2] = 0
    return rows


def uneven():
    spread = numpy.exp(numpy.random.default_rng(8).normal(size=(SHAPE[0], SHAPE[1] // 16)) * 3).astype(numpy.float32)
    return random_rows() * spread.repeat(16, axis=1)


ROWS = {
    "as weights are": random_rows(),
    "as bf16 holds them": (random_rows().view(numpy.uint32) & 0xFFFF0000).view(numpy.float32),
    "with outliers": with_outliers(),
    "with zeros": with_zeros(),
    "of uneven sub-blocks": uneven(),
    "all positive": numpy.abs(random_rows()),
    "all negative and far from zero": -numpy.abs(random_rows()) - numpy.float32(1),
    "of few values": numpy.random.default_rng(9).integers(-2, 3, SHAPE).astype(numpy.float32),
    "equal": numpy.full(SHAPE, -0.5, numpy.float32),
    "nearly equal": random_rows(1e-9) - numpy.float32(0.5),
    "zero": numpy.zeros(SHAPE, numpy.float32),
    "tiny": random_rows(1e-20),
    "large": random_rows(3000.0),
}


@pytest.fixture(params=TYPES)
def type_(request):
    return tensor_type(request.param)


IMPORTANCE = {
    "none": None,
    "of columns": numpy.random.default_rng(10).exponential(size=SHAPE[1]).astype(numpy.float32),
    "with columns that saw nothing": numpy.random.default_rng(11).integers(0, 3, SHAPE[1]).astype(numpy.float32),
}


@pytest.mark.parametrize("importance", IMPORTANCE)
@pytest.mark.parametrize("name", ROWS)
def test_the_bytes_are_those_of_ggml(type_, name, importance):
    weights = IMPORTANCE[importance]
    found = load_kernel(type_)(ROWS[name], weights)
    numpy.testing.assert_array_equal(found, quantizer.from_float32(ROWS[name], type_, weights))


@pytest.mark.parametrize("name", TYPES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_whatever_is_given_the_bytes_are_those_of_ggml_or_none(name, data):
    largest = data.draw(st.sampled_from([2.0**-100, 2.0**-20, 1.0, 16384.0]))
    elements = st.floats(-largest, largest, width=32)
    rows = data.draw(arrays.arrays(numpy.float32, (1, 256), elements=elements, fill=elements))
    counts = st.floats(0, 1000, width=32)
    importance = data.draw(st.none() | arrays.arrays(numpy.float32, 256, elements=counts, fill=counts))
    found = load_kernel(tensor_type(name))(rows, importance)
    if found is not None:
        numpy.testing.assert_array_equal(found, quantizer.from_float32(rows, tensor_type(name), importance))


@pytest.mark.parametrize("least", [7.1e-43, -1e-40])
def test_where_only_the_tiny_is_important_a_scale_that_has_no_inverse_gives_ggmls_bytes(type_, least):
    rows = numpy.full((4, 256), least, numpy.float32)
    rows[:, 5::7] = 0
    rows[:, ::32] = 1
    importance = numpy.ones(256, numpy.float32)
    importance[::32] = 0
    found = load_kernel(type_)(rows, importance)
    numpy.testing.assert_array_equal(found, quantizer.from_float32(rows, type_, importance))


@pytest.mark.parametrize("value", [1e30, numpy.inf, -numpy.inf, numpy.nan])
def test_rows_that_it_would_not_do_as_ggml_does_are_left_to_it(type_, value):
    rows = random_rows()
    rows[3, 5] = value
    assert load_kernel(type_)(rows) is None


@pytest.mark.parametrize("name", ["Q4_K", "Q5_K"])
def test_rows_too_small_to_be_divided_are_left_to_ggml(name):
    assert load_kernel(tensor_type(name))(random_rows(1e-40)) is None


def test_rows_in_a_memory_map_are_quantized_by_the_code_that_is_there(type_):
    kernel = load_kernel(type_)
    expected = kernel(ROWS["with zeros"])
    compiled = {module: len(module._search.signatures) for module in (affine, symmetric)}
    rows = ROWS["with zeros"].view()
    rows.flags.writeable = False
    numpy.testing.assert_array_equal(kernel(rows), expected)
    assert {module: len(module._search.signatures) for module in compiled} == compiled


def test_other_types_have_none():
    assert load_kernel(tensor_type("Q3_K")) is None


def test_without_numba_there_is_none(monkeypatch, type_):
    for module in (
        "compiling",
        "affine",
        "affine_blocks",
        "codebook",
        "scale_search",
        "symmetric",
    ):
        monkeypatch.delitem(sys.modules, f"toolkit.kernels.{module}", raising=False)
    monkeypatch.setitem(sys.modules, "numba", None)
    assert load_kernel(type_) is None


@pytest.fixture
def _no_kernels(monkeypatch):
    monkeypatch.setattr(quantizer, "_kernels", {})


@pytest.mark.usefixtures("_no_kernels")
def test_a_kernel_is_loaded_where_there_is_enough_to_do_for_it():
    counts = {"Q3_K": MANY, "Q4_K": (1 << 27) - 1, "Q6_K": 1 << 27, "IQ4_NL": (1 << 24) - 1, "IQ4_XS": 1 << 24}
    quantizer.load_compiled_kernels({tensor_type(name): count for name, count in counts.items()})
    assert [type_.name for type_ in quantizer._kernels] == ["Q6_K", "IQ4_XS"]


@pytest.mark.usefixtures("_no_kernels")
def test_a_kernel_that_does_not_give_ggmls_bytes_is_not_used(monkeypatch, type_):
    def differs(values, importance):
        quantized = kernels.load_kernel(type_)(values, importance)
        quantized[-1, -1] ^= 1
        return quantized

    monkeypatch.setattr(quantizer, "load_kernel", lambda _type: differs)
    quantizer.load_compiled_kernels({type_: MANY})
    assert quantizer._kernels == {type_: None}
    expected = quantizer._through_ggml(ROWS["with zeros"], type_, None)
    numpy.testing.assert_array_equal(quantizer.from_float32(ROWS["with zeros"], type_), expected)
