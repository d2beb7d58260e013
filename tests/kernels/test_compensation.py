"""Codes whose errors make up for each other: every step goes downhill, and numbers are those that the fields can hold."""

import numpy
import pytest

from toolkit.kernels.compensation import Grid, Rows, Run, compensate, descend, nearest_code, to_half

LINEAR = numpy.arange(-4, 4, dtype=numpy.float32)
CODEBOOK = numpy.array([-9, -4, -1, 2, 7], numpy.float32)


def grid(levels=LINEAR, scales=(-32, 31), minimum=0):
    return Grid(levels, bool(numpy.all(numpy.diff(levels) == 1)), 32, 16, *scales, minimum)


def form(n, seed=0):
    draw = numpy.random.default_rng(seed)
    mix = draw.standard_normal((n, n)) + 2 * numpy.eye(n)
    return (mix @ mix.T / n).astype(numpy.float32)


@pytest.mark.parametrize("levels", [LINEAR, CODEBOOK])
def test_the_nearest_level_is_found(levels):
    values = numpy.random.default_rng(1).uniform(-12, 12, 500).astype(numpy.float32)
    is_linear = levels is LINEAR
    found = [nearest_code(value, levels, is_linear) for value in values]
    assert found == [int(numpy.abs(levels - value).argmin()) for value in values]


def test_halves_are_rounded_as_numpy_rounds_them():
    draw = numpy.random.default_rng(2)
    values = (draw.standard_normal(2000) * 10.0 ** draw.integers(-8, 4, 2000)).astype(numpy.float32)
    assert [to_half(value) for value in values] == values.astype(numpy.float16).astype(numpy.float32).tolist()
    assert to_half(numpy.float32(0)) == 0


def test_errors_that_are_passed_on_cost_less_than_rounding_alone():
    h = form(64)
    spread = numpy.linalg.cholesky(numpy.linalg.inv(h.astype(numpy.float64))).T.astype(numpy.float32)
    draw = numpy.random.default_rng(3)
    weights = draw.standard_normal((20, 64)).astype(numpy.float32)
    scales, minima = numpy.full((20, 4), 0.5, numpy.float32), numpy.zeros((20, 4), numpy.float32)
    codes, errors = compensate(weights.copy(), spread, scales, minima, grid())
    off = LINEAR[codes] * numpy.float32(0.5) - weights
    plain = numpy.clip(numpy.rint(weights / 0.5), -4, 3) * 0.5 - weights
    losses = [numpy.einsum("ij,jk,ik->i", each, h, each) for each in (off, plain)]
    # What it reports is the loss: with H^-1 = U^T U, e H e^T is the sum of squares of e U^-1.
    assert numpy.allclose((errors.astype(numpy.float64) ** 2).sum(1), losses[0], rtol=1e-3)
    assert losses[0].sum() < 0.8 * losses[1].sum()


@pytest.mark.parametrize("scales", [(-32, 31), (1, 1)])
@pytest.mark.parametrize("minimum", [0, 15])
@pytest.mark.parametrize("levels", [LINEAR, CODEBOOK])
def test_the_gain_of_going_downhill_is_what_the_loss_falls_by(scales, minimum, levels):
    draw = numpy.random.default_rng(4)
    n, length = 12, 64
    h = form(length, 5)
    weights = draw.standard_normal((n, length)).astype(numpy.float32)
    d, dmin = (draw.uniform(0.01, 0.1, (n, 2)).astype(numpy.float16).astype(numpy.float32) for _ in range(2))
    whole = (
        draw.integers(1, 8, (n, 4)).astype(numpy.int32) if scales[0] < scales[1] else numpy.ones((n, 4), numpy.int32)
    )
    least = draw.integers(0, 3, (n, 4)).astype(numpy.int32) if minimum else numpy.zeros((n, 4), numpy.int32)
    codes = draw.integers(0, len(levels), (n, length)).astype(numpy.uint8)

    def values():
        scale, off = (numpy.repeat(numpy.repeat(a, 2, 1) * b, 16, 1) for a, b in ((d, whole), (dmin, least)))
        return scale * levels[codes] - off

    rows = Rows(d, dmin, whole, least, codes, values() - weights)

    def loss():
        off = (values() - weights).astype(numpy.float64)
        return float(numpy.einsum("ij,jk,ik->", off, h.astype(numpy.float64), off))

    before = loss()
    gained = 0.0
    for start in (0, 32):
        part = numpy.ascontiguousarray(h[start : start + 32, start : start + 32])
        gradients = rows.errors @ h[:, start : start + 32]
        gained += descend(rows, grid(levels, scales, minimum), Run(start, part, gradients), 3)
    assert gained > 0.2 * before
    assert numpy.isclose(before - loss(), gained, rtol=1e-3)
    assert numpy.allclose(rows.errors, values() - weights, atol=1e-4)
    assert numpy.array_equal(d, d.astype(numpy.float16).astype(numpy.float32))
    assert whole.min() >= scales[0]
    assert whole.max() <= scales[1]
    assert least.min() >= 0
    assert least.max() <= max(minimum, 0)
