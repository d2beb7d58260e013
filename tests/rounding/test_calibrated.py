"""Calibrated quant blocks: ordinary bytes of the type, with less error on inputs that move together."""

from functools import cache

import numpy
import pytest

from toolkit.gguf.ggml_types import TYPES
from toolkit.kernels.quant_formats import FORMATS
from toolkit.llama import quantizer
from toolkit.rounding.calibrated import Effort, round_rows
from toolkit.rounding.quadratic_form import damped
from toolkit.rounding.row_rounding import can_round

LENGTH, ROWS = 512, 24
QUICK = Effort(scale_rounds=2, passes=2)


@cache
def problem():
    """Return weights, the form of few tokens that rounding sees, and the true one that judges."""
    draw = numpy.random.default_rng(0)
    mix = draw.standard_normal((LENGTH, LENGTH)) * numpy.exp(draw.normal(size=(LENGTH, 1))) * 0.15
    mix += numpy.eye(LENGTH)
    inputs = draw.standard_normal((20 * LENGTH, LENGTH)) @ mix
    weights = (draw.standard_normal((ROWS, LENGTH)) * 0.05).astype(numpy.float32)
    return weights, damped(inputs.T @ inputs / len(inputs), 0.05), damped(mix.T @ mix, 0.0)


@pytest.mark.parametrize("name", FORMATS)
def test_the_loss_on_other_inputs_is_a_fraction_of_that_of_ggml_with_an_importance_matrix(name):
    weights, form, judge = problem()
    type_ = TYPES[name]
    found = [
        judge.loss(quantizer.to_float32(rows, type_) - weights)
        for rows in (round_rows(weights, type_, form, QUICK), quantizer.from_float32(weights, type_, form.importance))
    ]
    assert found[0] < 0.35 * found[1]


def test_more_effort_costs_nothing_in_loss():
    weights, form, _ = problem()
    type_ = TYPES["Q3_K"]
    efforts = (Effort(1, 0), Effort(3, 0), Effort(3, 1), Effort(3, 4))
    losses = [
        form.loss(quantizer.to_float32(round_rows(weights, type_, form, effort), type_) - weights) for effort in efforts
    ]
    assert losses == sorted(losses, reverse=True)
    assert len(set(losses)) == len(losses)


def test_rows_whose_length_is_no_multiple_of_a_run_are_rounded_to_the_end():
    weights, form, _ = problem()
    part = damped(form.matrix[:320, :320].astype(numpy.float64), 0.0)
    rows = quantizer.to_float32(round_rows(weights[:, :320].copy(), TYPES["Q4_0"], part, QUICK), TYPES["Q4_0"])
    assert numpy.abs(rows - weights[:, :320]).max() < 0.1


def test_rows_of_zeros_stay_zeros():
    _, form, _ = problem()
    zeros = numpy.zeros((4, LENGTH), numpy.float32)
    for name in FORMATS:
        assert not quantizer.to_float32(round_rows(zeros, TYPES[name], form, QUICK), TYPES[name]).any(), name


def test_types_that_are_not_made_of_such_fields_are_left_to_ggml():
    assert can_round(TYPES["Q4_K"])
    assert not can_round(TYPES["IQ2_XS"])
    assert not can_round(TYPES["Q8_0"])


def test_columns_that_the_text_never_reached_cost_the_mean():
    moments = numpy.diag([4.0, 0.0, 2.0, 2.0])
    form = damped(moments, 0.1)
    assert numpy.allclose(numpy.diag(form.matrix), [4.2, 2.2, 2.2, 2.2])
    assert numpy.allclose(form.spread.T @ form.spread, numpy.linalg.inv(form.matrix), atol=1e-6)
