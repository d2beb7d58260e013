import math
from dataclasses import replace

import numpy
import pytest
from made_up_comparison import divergence, quality

from toolkit.comparison.figures import divergence_figures, measurement_of, measurements_of, percentile_interval
from toolkit.comparison.rows import Quality, Row, TextKey
from toolkit.measures.divergence_statistics import Estimate, TokenScores, summarize


def scores(random: numpy.random.Generator, mean: float, count: int = 255) -> TokenScores:
    base = random.gamma(2, 1, count).astype(numpy.float32)
    divergence = random.gamma(0.5, 2 * mean, count)
    return TokenScores(
        nll=base + divergence.astype(numpy.float32),
        base_nll=base,
        divergence=divergence,
        same_top=random.random(count) > mean,
        rounding=numpy.full(count, 1e-4, numpy.float32),
    )


def test_the_bounds_of_a_percentile_hold_as_often_as_they_say() -> None:
    random = numpy.random.default_rng(3)
    true = -math.log(0.01)
    held = 0
    for _ in range(400):
        values = random.exponential(1, 5000)
        found = percentile_interval(values, 0.99, float(numpy.quantile(values, 0.99)))
        assert found.low <= found.mean <= found.high
        held += found.low <= true <= found.high
    assert held >= 0.93 * 400


def test_too_few_values_do_not_bound_a_tail_from_above() -> None:
    values = numpy.linspace(0, 1, 2000)
    assert percentile_interval(values, 0.999, 0.999).high == math.inf
    assert percentile_interval(numpy.linspace(0, 1, 10000), 0.999, 0.999).high < math.inf


def test_the_error_is_that_between_chunks_where_tokens_of_a_chunk_are_alike() -> None:
    random = numpy.random.default_rng(4)
    chunks = [scores(random, mean) for mean in (0.01, 0.02, 0.03, 0.04) * 5]
    divergence = summarize(chunks, 512)
    figures = divergence_figures(divergence, [chunk.divergence for chunk in chunks])
    assert figures.mean.value == divergence.divergence.mean.value
    assert figures.mean.error > 1.3 * divergence.divergence.mean.error
    assert figures.p999.low < figures.p999.mean < figures.p999.high


def test_a_row_gives_evidence_with_bounds_to_verdicts() -> None:
    random = numpy.random.default_rng(5)
    chunks = [scores(random, 0.02) for _ in range(40)]
    figures = divergence_figures(summarize(chunks, 512), [chunk.divergence for chunk in chunks])
    key = TextKey("ab" * 32, 512, 40, "v")
    quality = Quality("code", "repo.txt", key, 10_200, Estimate(6.0, 0.1), figures)
    [found] = measurements_of(Row("Q4_K_M", "f16", False, 1, 4.9, qualities=(quality,)))
    assert (found.kind, found.n_ctx_seq, found.chunks) == ("code", 512, 40)
    for measured in found.values.values():
        assert measured.low <= measured.value <= measured.high
    assert found.values["perplexity_ratio"].value == pytest.approx(math.exp(figures.log_ratio.value))
    [without] = measurements_of(
        Row("x", "f16", False, 1, 4.9, qualities=(Quality("code", "t", key, 1, Estimate(6, 1)),))
    )
    assert without.values == {}


def test_a_ratio_beyond_what_a_float_holds_is_infinite():
    found = quality(replace(divergence(0.01), log_ratio=Estimate(1e300, 0.0)))
    assert measurement_of(found).values["perplexity_ratio"].high == math.inf
