"""What the types allow: every type passes on what it was made of, and nothing that is unrelated does."""

from dataclasses import replace

import numpy
import pytest

from toolkit.gguf.ggml_types import F16, F32, TYPES
from toolkit.gguf.reader import read_gguf
from toolkit.gguf.rows import StoredRows, all_runs, generated, row_count, sampled_runs
from toolkit.llama import quantizer
from toolkit.model_source import SourceTensor
from toolkit.quant_profile.weight_types import NEED_IMATRIX, WEIGHT_TYPES
from toolkit.sources.gguf_source import source_from_gguf
from toolkit.verification.check import Outcome
from toolkit.verification.weights import SCALE_ROUNDING, check_weights, measure_deviation

ROWS, COLUMNS = 24, 512
TERNARY = ("TQ1_0", "TQ2_0")
SLOW = ("IQ1_S", "IQ1_M", "IQ2_XS", "IQ2_S")
"""llama.cpp builds tables for these for up to 20 s; IQ2_XXS, which works alike, is tried."""
TYPES_TO_TRY = [name for name in WEIGHT_TYPES if name not in SLOW]


def weights(seed):
    """Return float32 [ROWS, COLUMNS] with a few large columns, as real weights have."""
    draw = numpy.random.default_rng(seed)
    scales = numpy.exp(draw.normal(0, 0.5, COLUMNS))
    return (draw.normal(0, 0.02, (ROWS, COLUMNS)) * scales).astype(numpy.float32)


def stored(values, type_, importance=None):
    quantizer.prepare({type_})
    if importance is None and type_.name in NEED_IMATRIX:
        importance = numpy.ones(COLUMNS, numpy.float32)
    return StoredRows(values.shape, type_, quantizer.from_float32(values, type_, importance).reshape(-1))


def found(values, rows):
    return measure_deviation(SourceTensor("blk.0.ffn_up.weight", generated(values)), rows, full=True)


@pytest.mark.parametrize("name", TYPES_TO_TRY)
def test_every_type_passes_on_its_own_weights(name):
    values = weights(1)
    result = found(values, stored(values, TYPES[name]))
    assert result.excess <= 1
    assert result.n_rows == ROWS


@pytest.mark.parametrize("name", [name for name in TYPES_TO_TRY if name not in TERNARY])
def test_an_importance_matrix_is_allowed_and_another_matrix_is_not(name):
    values, importance = weights(2), numpy.random.default_rng(3).exponential(1, COLUMNS).astype(numpy.float32) ** 2
    assert found(values, stored(values, TYPES[name], importance)).excess <= 1
    assert found(values, stored(weights(4), TYPES[name])).excess > 1


@pytest.mark.parametrize("name", ["F16", "BF16", "Q8_0", "Q4_K", "IQ2_XXS"])
def test_rows_in_another_order_are_too_far(name):
    values = weights(5)
    order = numpy.arange(ROWS)
    order[[3, 4]] = order[[4, 3]]
    result = found(values, stored(values[order], TYPES[name]))
    assert result.excess > 1
    assert result.worst_row in (3, 4)


def test_a_float_that_is_equal_is_at_no_distance_and_one_per_mille_is_too_far():
    values = weights(6)
    assert found(values, stored(values, F32)).excess == 0
    assert found(values, stored(values * numpy.float32(1.001), F32)).excess > 100
    assert found(values, stored(values * numpy.float32(1.01), F16)).excess > 10


def test_a_minimum_that_was_rounded_to_float16_passes():
    values = weights(7)
    rows = stored(values, TYPES["Q4_1"])
    exact = quantizer.to_float32(rows.read_rows(0, ROWS), rows.type)
    moved = exact * numpy.float32(1 + SCALE_ROUNDING / 2)
    assert found(moved, rows).excess <= 1


def test_zeros_must_stay_zeros():
    zeros = numpy.zeros((ROWS, COLUMNS), numpy.float32)
    assert found(zeros, stored(zeros, TYPES["Q4_K"])).excess == 0
    assert found(zeros, stored(weights(8), TYPES["Q4_K"])).excess == numpy.inf


def test_samples_take_rows_of_every_expert_and_are_the_same_every_time():
    runs = list(sampled_runs("blk.0.ffn_up_exps.weight", (6, 50, 32)))
    assert [start // 50 for start, _ in runs] == list(range(6))
    assert all(start // 50 == (stop - 1) // 50 for start, stop in runs)
    assert runs == list(sampled_runs("blk.0.ffn_up_exps.weight", (6, 50, 32)))
    assert runs != list(sampled_runs("blk.1.ffn_up_exps.weight", (6, 50, 32)))
    assert list(sampled_runs("norm", (64,))) == [(0, 1)]
    assert list(sampled_runs("small", (9, 64))) == [(0, 9)]


def test_all_rows_are_covered_once():
    runs = list(all_runs((3, 700, 4096)))
    assert [start for start, _ in runs[1:]] == [stop for _, stop in runs[:-1]]
    assert (runs[0][0], runs[-1][1]) == (0, 2100)


@pytest.mark.parametrize("name", ["Q2_K", "IQ2_XXS", *TERNARY])
def test_rows_of_zeros_pass_in_no_type(name):
    # Ternary weights err by so much that twice as far would reach to nothing at all.
    values = weights(8)
    assert found(values, stored(numpy.zeros_like(values), TYPES[name])).excess > 1


def test_the_last_tensor_is_compared_like_the_others(converted):
    path = converted("llama3", "q8_0")
    source, file = source_from_gguf(path, allow_requantize=True), read_gguf(path)
    last, rows = source.tensors[-1].name, file.tensors[source.tensors[-1].name]
    values = quantizer.to_float32(rows.read_rows(0, row_count(rows.shape)), rows.type)
    other = generated(values.reshape(rows.shape) + 1)
    check = next(iter(check_weights(source, replace(file, tensors=file.tensors | {last: other}))))
    assert check.outcome is Outcome.FAIL
    assert check.evidence.startswith(f"{last} (row ")


def test_not_a_number_is_too_far_from_every_number():
    values = weights(9)
    broken = values.copy()
    broken[5, 7] = numpy.nan
    result = found(values, generated(broken))
    assert (result.excess, result.finite) == (numpy.inf, False)
    assert found(broken, generated(broken)).excess == 0


def test_the_row_that_is_told_is_the_worst():
    values = weights(10)
    moved = values.copy()
    moved[3] += 5
    moved[20] += 1
    assert found(values, generated(moved)).worst_row == 3


def test_a_row_may_be_twice_as_far_as_its_rounding_puts_it_and_not_three_times():
    values, type_ = weights(11), TYPES["Q8_0"]
    rounded = quantizer.to_float32(quantizer.from_float32(values, type_), type_)
    noise = numpy.random.default_rng(12).normal(0, 1, values.shape) * (rounded - values).std(axis=1, keepdims=True)
    near, far = (stored((values + share * noise).astype(numpy.float32), type_) for share in (1.2, 3))
    assert found(values, near).excess < 1 < found(values, far).excess


def test_the_worst_row_is_told_though_better_ones_are_read_after_it():
    values = numpy.ones((40, 1 << 16), numpy.float32)
    moved = values.copy()
    moved[1] += 1
    result = found(values, generated(moved))
    assert (result.worst_row, result.n_rows) == (1, 40)
    assert result.excess > 1
