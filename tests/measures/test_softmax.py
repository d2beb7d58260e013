import numpy
import pytest

from toolkit.measures.softmax import log_sum, negative_log_likelihoods


def log_sum_of(logits: numpy.ndarray) -> numpy.ndarray:
    return log_sum(logits, logits.max(axis=1, keepdims=True))[:, 0]


@pytest.mark.parametrize("spread", [1, 3, 8])
def test_sums_are_those_of_exponentials_that_are_rounded_as_they_should_be(spread: float) -> None:
    logits = numpy.random.default_rng(0).normal(0, spread, (500, 3000)).astype(numpy.float32)
    exact = numpy.exp(logits - logits.max(axis=1, keepdims=True), dtype=numpy.float64).astype(numpy.float32)
    expected = numpy.log(exact.sum(axis=1, dtype=numpy.float64)).astype(numpy.float32)
    found = log_sum_of(logits)
    numpy.testing.assert_allclose(found, expected, rtol=1.2e-7, atol=1e-7)
    assert (found == expected).mean() > 0.97


def test_one_certain_token_and_equally_likely_ones_are_exact() -> None:
    certain = numpy.array([[0, -1e4, -3e38]], numpy.float32)
    assert log_sum_of(certain).tolist() == [0]
    assert log_sum_of(numpy.full((2, 8), 5e4, numpy.float32)).tolist() == [numpy.log(numpy.float32(8))] * 2


def test_scores_do_not_depend_on_how_rows_are_grouped(monkeypatch: pytest.MonkeyPatch) -> None:
    random = numpy.random.default_rng(0)
    logits = random.normal(0, 4, (50, 300)).astype(numpy.float32)
    targets = random.integers(0, 300, 50)
    whole = negative_log_likelihoods(logits, targets)
    monkeypatch.setattr("toolkit.measures.softmax._CACHED_BYTES", 3 * 4 * 300)
    numpy.testing.assert_array_equal(negative_log_likelihoods(logits, targets), whole)


def test_large_logits_do_not_overflow() -> None:
    logits = numpy.array([[3e4, 0, -3e4]], numpy.float32)
    assert negative_log_likelihoods(logits, numpy.array([0]))[0] == 0
    assert negative_log_likelihoods(logits, numpy.array([2]))[0] == pytest.approx(6e4)
