"""Row sources against numpy on the whole tensor: any piece must be what the whole says it is."""

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.architectures.parts import row_sources
from toolkit.architectures.parts.row_sources import (
    Computed,
    Joined,
    Padded,
    Reshaped,
    SelectedColumns,
    SelectedRows,
    Transposed,
)
from toolkit.architectures.parts.transforms import (
    every_other_row,
    head_rows,
    negative_exponential,
    part,
    plus_one,
    regrouped,
    row_range,
    scaled,
    stacked,
    ungrouped,
)
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.ggml_types import BF16, F16, F32, TYPES
from toolkit.gguf.rows import StoredRows, generated, row_count

NO_CONFIG = ModelConfig({})


def counted(*shape):
    return numpy.arange(numpy.prod(shape), dtype="<f4").reshape(shape)


def stored(values, type_):
    return StoredRows(values.shape, type_, numpy.ascontiguousarray(values).reshape(-1).view(numpy.uint8))


def read(source, start=0, stop=None, dtype="<f4"):
    rows = source.read_rows(start, row_count(source.shape) if stop is None else stop)
    return numpy.ascontiguousarray(rows).view(dtype).reshape(-1, source.shape[-1])


def pieces_are_those_of(source, expected, data):
    rows = expected.reshape(-1, expected.shape[-1])
    assert source.shape == expected.shape
    start = data.draw(st.integers(0, len(rows) - 1))
    stop = data.draw(st.integers(start + 1, len(rows)))
    assert numpy.array_equal(read(source, start, stop), rows[start:stop])


BUILT = {
    "transposed": (lambda w: Transposed(generated(w)), lambda w: w.swapaxes(-1, -2)),
    "first half": (lambda w: part(0, 2)(generated(w), NO_CONFIG), lambda w: w[:, :4]),
    "second half": (lambda w: part(1, 2)(generated(w), NO_CONFIG), lambda w: w[:, 4:]),
    "even rows": (lambda w: every_other_row(0)(generated(w), NO_CONFIG), lambda w: w[:, ::2]),
    "odd rows": (lambda w: every_other_row(1)(generated(w), NO_CONFIG), lambda w: w[:, 1::2]),
    "columns": (lambda w: SelectedColumns(generated(w), numpy.array([4, 0, 2])), lambda w: w[..., [4, 0, 2]]),
    "flattened": (lambda w: Reshaped(generated(w), (24, 5)), lambda w: w.reshape(24, 5)),
    "other rows": (lambda w: Reshaped(generated(w), (3, 40)), lambda w: w.reshape(3, 40)),
    "stacked": (lambda w: stacked(tuple(generated(one) for one in w)), lambda w: w),
    "joined": (
        lambda w: Joined((generated(w[2]), generated(w[0])), (16, 5)),
        lambda w: numpy.concatenate([w[2], w[0]]),
    ),
}


@pytest.mark.parametrize("built", BUILT)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_any_piece_is_that_of_the_whole(built, data):
    weights = counted(3, 8, 5)
    build, expected = BUILT[built]
    pieces_are_those_of(build(weights), numpy.ascontiguousarray(expected(weights)), data)


@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_rows_that_lie_far_apart_are_read_run_by_run(data):
    weights = counted(60, 3)
    order = numpy.array(data.draw(st.permutations(range(60))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_sources, "ROWS_AT_ONCE", 0)
        pieces_are_those_of(regrouped(generated(weights), order), weights[order], data)


def test_groups_of_q_k_and_v_come_apart():
    order = ungrouped(2, (2, 1, 1))
    assert order.tolist() == [0, 1, 4, 5, 2, 6, 3, 7]


def test_a_range_of_the_rows_of_every_head():
    weights = counted(6, 2)
    assert numpy.array_equal(read(head_rows(generated(weights), 2, 1, 3)), weights[[1, 2, 4, 5]])
    assert head_rows(generated(weights), 2, 1, 3).shape == (2, 2, 2)


def test_a_vectors_elements_take_the_part_of_rows():
    assert read(row_range(generated(counted(6)), 2, 5)).tolist() == [[2, 3, 4]]


def test_padding_is_zeros_after_the_stored_rows():
    padded = Padded(generated(counted(2, 2) + 1), (4, 2))
    assert read(padded).tolist() == [[1, 2], [3, 4], [0, 0], [0, 0]]
    assert read(padded, 3, 4).tolist() == [[0, 0]]


def test_bfloat16_is_widened_before_computing_and_float16_is_not():
    wide = stored(numpy.array([0x3DCD], dtype="<u2"), BF16)  # 0.10009765625
    narrow = stored(numpy.array([0.1], dtype="<f2"), F16)
    assert (plus_one(wide, NO_CONFIG).type, plus_one(narrow, NO_CONFIG).type) == (F32, F16)
    assert read(plus_one(wide, NO_CONFIG)).item() == numpy.float32(1.10009765625)
    assert read(plus_one(narrow, NO_CONFIG), dtype="<f2").item() == numpy.float16(0.1) + numpy.float16(1)


def test_quantized_rows_are_not_computed_on():
    blocks = StoredRows((32,), TYPES["Q8_0"], numpy.zeros(34, dtype=numpy.uint8))
    with pytest.raises(ValueError, match="cannot compute on rows of Q8_0"):
        scaled(blocks, 2.0).read_rows(0, 1)


def test_minus_exp_is_correctly_rounded():
    logarithms = numpy.linspace(-3, 5, 1000, dtype="<f4")
    expected = -numpy.exp(logarithms.astype(numpy.float64))
    assert numpy.array_equal(read(negative_exponential(generated(logarithms), NO_CONFIG))[0], expected.astype("<f4"))


def test_sources_say_the_type_and_shape_of_what_they_deliver():
    source = generated(counted(4, 2))
    for built in (SelectedRows(source, (4, 2), lambda rows: rows), Transposed(source), Computed(source, lambda v: v)):
        assert built.type is F32
