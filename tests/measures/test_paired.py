"""Answers that come before the end of a text: how often they are wrong, and how soon they come."""

import math
from contextlib import ExitStack
from dataclasses import replace
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

import numpy
import pytest
from demo_model import convert_demo

from toolkit.llama.run_settings import RunSettings
from toolkit.llama.runtime import LlamaRuntime
from toolkit.measures.chunks import cut_chunks
from toolkit.measures.divergence import LiveBase, measure_divergences
from toolkit.measures.divergence_statistics import ChunkScores
from toolkit.measures.evaluation_text import read_text
from toolkit.measures.paired import (
    CLIP_FACTOR,
    ModelScores,
    Question,
    decisions,
    interval,
    judge,
    mean_divergence_at_most,
    no_farther_than,
    perplexity_increase_at_most,
    random_order,
    same_top_at_least,
    student_quantile,
)


def load_simulation() -> Any:
    path = Path(__file__).parents[2] / "scripts" / "simulate_stopping"
    loader = SourceFileLoader("simulate_stopping", str(path))
    spec = spec_from_loader("simulate_stopping", loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


SIMULATION = load_simulation()
RUNS, CHUNKS = 300, 100


def quantized(random: numpy.random.Generator, count: int = CHUNKS) -> numpy.ndarray:
    """Return divergences as chunks of a quantized model have them, of mean 1."""
    return random.gamma(30, 1 / 30, count)


def scores_of(*models: numpy.ndarray) -> list[ModelScores]:
    return [
        [ChunkScores(float(value), float(value), 1 - float(value)) for value in chunk]
        for chunk in zip(*models, strict=True)
    ]


def first_decision(chunks: list[ModelScores], question: Question) -> tuple[str, int]:
    """Look after every chunk of a text, as --until-decided does."""
    values = numpy.array([question.value_of(chunk) for chunk in chunks])
    found = decisions(values, question, len(chunks))
    return next((outcome, count) for count, outcome in enumerate(found, 1) if outcome != "undecided")


@pytest.mark.parametrize("name", SIMULATION.KINDS)
def test_looking_after_every_chunk_is_wrong_in_at_most_one_case_of_twenty(name: str) -> None:
    # 5 %, and what chance adds to that in one of a thousand simulations of so many runs.
    found = SIMULATION.errors_of(SIMULATION.KINDS[name], RUNS, CHUNKS, numpy.random.default_rng(1))
    most = SIMULATION.most_by_chance(RUNS)
    assert found.false_passes <= most
    assert found.false_fails <= most


def test_what_chance_adds_is_the_binomial_distributions() -> None:
    # Tables of the binomial distribution: of 20 at 0.05 at most 3 in 98.41 %, 4 in 99.74 %, 5 in 99.97 %.
    assert [SIMULATION.most_by_chance(20, 0.05, sure) for sure in (0.984, 0.997, 0.9996)] == [3, 4, 5]
    assert SIMULATION.most_by_chance(RUNS) == 28
    assert [SIMULATION.Errors(RUNS, *counts, 300).exceed for counts in ((28, 0), (0, 29), (29, 0))] == [
        False,
        True,
        True,
    ]


def test_the_simulation_notices_who_is_wrong_too_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SIMULATION, "decisions", lambda values, *_: decisions(values, *_, 0.3))
    random = numpy.random.default_rng(1)
    kinds = [SIMULATION.KINDS[name] for name in ("skewed", "5 % of chunks 5 x worse", "differences")]
    assert all(SIMULATION.errors_of(kind, RUNS, CHUNKS, random).exceed for kind in kinds)


@pytest.fixture(scope="module")
def real_chunks(tmp_path_factory: pytest.TempPathFactory) -> list[ModelScores]:
    """Give the scores of the demo model in 4 and in 3 bits on chunks of Python's own text."""
    folder = tmp_path_factory.mktemp("demo")
    settings = RunSettings(n_ctx=8 * 32, n_batch=256, n_ubatch=256, n_threads=1, n_parallel=8)
    with ExitStack() as stack:
        four, three, base = (
            stack.enter_context(LlamaRuntime(convert_demo(folder, profile), settings))
            for profile in ("q4_k_m", "q3_k_m", "bf16")
        )
        chunks = cut_chunks(base.tokenize(read_text().text), 32, 100)
        found = measure_divergences((four, three), LiveBase(base), chunks)
    return list(zip(*(model.per_chunk for model in found), strict=True))


@pytest.mark.parametrize(
    "question",
    [mean_divergence_at_most(1), perplexity_increase_at_most(1), same_top_at_least(1), no_farther_than("another")],
    ids=lambda question: question.quantity,
)
def test_on_chunks_of_a_real_text_it_is_not_wrong_more_often(
    real_chunks: list[ModelScores], question: Question
) -> None:
    random = numpy.random.default_rng(8)
    values = numpy.array([question.value_of(chunk) for chunk in real_chunks])
    kind = SIMULATION.Kind(lambda _, __: values, lambda threshold: replace(question, threshold=threshold))
    found = SIMULATION.errors_of(kind, RUNS, len(values), random)
    assert not found.exceed


@pytest.mark.parametrize(("threshold", "expected"), [(0.8, "failed"), (2.0, "passed")])
def test_a_clear_difference_needs_less_than_a_third_of_the_text(threshold: float, expected: str) -> None:
    random = numpy.random.default_rng(2)
    question = mean_divergence_at_most(threshold)
    found = [first_decision(scores_of(quantized(random)), question) for _ in range(100)]
    assert sum(outcome == expected for outcome, _ in found) >= 99
    assert numpy.mean([count for _, count in found]) < CHUNKS / 3


def test_ten_chunks_without_a_disagreement_pass_only_what_the_exact_bound_allows() -> None:
    ten = scores_of(numpy.zeros(10))
    # Less than 25.9 % of disagreement cannot be told from ten chunks by any method that is wrong in at most 5 %.
    for share, outcome in ((0.95, "undecided"), (0.75, "undecided"), (0.65, "passed")):
        assert judge(ten, [same_top_at_least(share)], 1000).outcome == outcome
    [answer] = judge(ten, [same_top_at_least(0.95)], 1000).answers
    assert 0.259 < answer.interval.high < 0.31
    assert answer.interval.mean == 0


def test_equal_chunks_say_no_more_than_chunks_that_were_not_seen_allow() -> None:
    found = decisions(numpy.full(1000, 0.5), mean_divergence_at_most(1.0), 1000)
    passed = found.index("passed") + 1
    # Were more than a ninth of the chunks clipped at 5, the mean would be above 1; 26 chunks without one exclude that.
    assert 26 <= passed <= 35
    doubled = decisions(numpy.full(1000, 0.5), mean_divergence_at_most(1.0), 1000, 0.1)
    assert doubled.index("passed") + 1 < passed - 3


def test_a_chunk_that_is_clipped_leaves_a_pass_to_the_whole_text() -> None:
    question = mean_divergence_at_most(1.0)
    values = numpy.full(100, 0.2)
    without, (values[3], expected) = decisions(values, question, 100), (CLIP_FACTOR + 20.0, 0.448)
    found = decisions(values, question, 100)
    assert "passed" in without[:30]
    assert found == ["undecided"] * 99 + ["passed"]
    [answer] = judge(scores_of(values[:50]), [question], 100).answers
    assert (answer.outcome, answer.clipped_chunks) == ("undecided", 1)
    assert answer.clipped_off_mean == pytest.approx(20 / 50)
    assert answer.clip is not None
    assert answer.clip.high == CLIP_FACTOR
    # A fail is one of the uncut mean too: cutting lowers a mean.
    assert "failed" in decisions(values + 3, question, 100)[:30]
    [whole] = judge(scores_of(values), [question], 100).answers
    assert (whole.interval.low, whole.interval.high, whole.clip) == (whole.interval.mean, whole.interval.mean, None)
    assert whole.interval.mean == pytest.approx(expected)


def test_what_is_cut_below_leaves_a_fail_to_the_whole_text() -> None:
    question = perplexity_increase_at_most(0.01)
    values = numpy.full(100, 0.08)
    assert "failed" in decisions(values, question, 100)[:60]
    values[3] = -2.0
    assert decisions(values, question, 100)[:99] == ["undecided"] * 99


def test_differences_are_counted_up_to_five_times_those_of_the_first_chunks() -> None:
    question = no_farther_than("another")
    values = numpy.concatenate([[1.0, -1.0, 2.0, -2.0, 4.0], numpy.full(95, -0.5)])
    bounds = question.bounds_of(values)
    assert (bounds.low, bounds.high, bounds.known_after) == (-10, 10, 5)
    assert question.bounds_of(values[:5]) == bounds
    assert set(decisions(values, question, 100)[:5]) == {"undecided"}
    alike = decisions(numpy.zeros(40), question, 40)
    assert alike == ["undecided"] * 39 + ["passed"]


def test_a_logarithm_is_counted_up_to_a_tenth_or_five_times_the_threshold() -> None:
    for share, clip in ((0.01, 0.1), (0.0, 0.1), (0.1, 5 * math.log(1.1)), (-0.1, -5 * math.log(0.9))):
        bounds = perplexity_increase_at_most(share).bounds_of(numpy.zeros(1))
        assert (bounds.low, bounds.high, bounds.is_natural) == (pytest.approx(-clip), pytest.approx(clip), False)


def test_the_whole_text_decides_by_its_mean() -> None:
    values = numpy.random.default_rng(9).normal(0.5, 0.3, 20)
    for distance, outcome in ((1e-9, "passed"), (-1e-9, "failed")):
        verdict = judge(scores_of(values), [mean_divergence_at_most(values.mean() + distance)], 20)
        assert (verdict.outcome, verdict.is_exact, verdict.holds) == (outcome, True, outcome == "passed")


def test_without_chunks_nothing_is_said() -> None:
    [answer] = judge([], [mean_divergence_at_most(1)], 100).answers
    assert (answer.outcome, answer.interval.high) == ("undecided", math.inf)


# Student's distribution, from tables: two-sided 95 %, 99 % and 99.9 %.
QUANTILES = {29: (2.0452, 2.7564, 3.6594), 40: (2.0211, 2.7045, 3.5510), 60: (2.0003, 2.6603, 3.4602), 120: (1.9799, 2.6174, 3.3735)}  # fmt: skip


@pytest.mark.parametrize("freedom", QUANTILES)
def test_the_interval_is_as_wide_as_students_tables_say(freedom: int) -> None:
    for probability, quantile in zip((0.975, 0.995, 0.9995), QUANTILES[freedom], strict=True):
        assert student_quantile(probability, freedom) == pytest.approx(quantile, abs=1e-3)
    half = (freedom + 1) // 2
    values = [1.0] * half + [-1.0] * half + [0.0] * ((freedom + 1) % 2)
    deviation = math.sqrt(2 * half / freedom)
    for alpha, quantile in zip((0.05, 0.01, 0.001), QUANTILES[freedom], strict=True):
        found = interval(values, alpha)
        assert found.high == -found.low == pytest.approx(quantile * deviation / math.sqrt(freedom + 1), rel=5e-4)


def test_the_interval_covers_the_mean_as_often_as_it_says_where_tails_are_light() -> None:
    random = numpy.random.default_rng(11)
    for draw in (lambda: random.normal(1, 0.2, 40), lambda: quantized(random, 40), lambda: random.gamma(2, 1 / 2, 40)):
        missed = sum(not (found := interval(draw().tolist())).low <= 1 <= found.high for _ in range(1000))
        assert missed <= SIMULATION.most_by_chance(1000)


def test_few_chunks_and_equal_ones_have_no_interval() -> None:
    random = numpy.random.default_rng(3)
    few = random.normal(0, 1, 29).tolist()
    assert interval(few).high == math.inf > interval([*few, 0.0]).high
    assert interval([0.5] * 100).low == -math.inf
    assert interval([]).high == math.inf


def test_the_interval_shrinks_and_reaches_further_where_the_tail_is() -> None:
    random = numpy.random.default_rng(3)
    values = random.gamma(1, 1, 400).tolist()
    wide, narrow = interval(values[:40]), interval(values)
    assert narrow.high - narrow.low < wide.high - wide.low
    assert wide.high - wide.mean > wide.mean - wide.low
    mirrored = interval([-value for value in values[:40]])
    assert (mirrored.low, mirrored.high) == pytest.approx((-wide.high, -wide.low))


def test_more_certainty_needs_a_wider_interval() -> None:
    values = numpy.random.default_rng(4).normal(0, 1, 50).tolist()
    assert interval(values, 0.01).high > interval(values, 0.05).high


def test_several_questions_share_the_rate_of_errors() -> None:
    chunks = scores_of(numpy.random.default_rng(5).normal(0.5, 0.01, 60))
    alone = judge(chunks, [mean_divergence_at_most(0.9)], 200)
    three = [mean_divergence_at_most(0.9), perplexity_increase_at_most(2.0), same_top_at_least(0.2)]
    together = judge(chunks, three, 200)
    assert together.outcome == "passed"
    assert together.answers[0].interval.high > alone.answers[0].interval.high
    assert together.answers[0].interval.high == pytest.approx(
        judge(chunks, [mean_divergence_at_most(0.9)], 200, 0.05 / 3).answers[0].interval.high
    )
    mixed = judge(chunks, [mean_divergence_at_most(0.9), same_top_at_least(0.9)], 200)
    assert [answer.outcome for answer in mixed.answers] == ["passed", "failed"]
    assert mixed.outcome == "failed"
    assert not mixed.holds


def test_without_a_decision_the_mean_of_what_was_seen_speaks() -> None:
    values = numpy.random.default_rng(6).normal(0.5, 0.3, 20)
    for distance, holds in ((0.05, True), (-0.05, False)):
        verdict = judge(scores_of(values), [mean_divergence_at_most(values.mean() + distance)], 200)
        assert (verdict.outcome, verdict.holds) == ("undecided", holds)


def test_the_better_of_two_models_shows_in_their_differences_long_before_their_means() -> None:
    random = numpy.random.default_rng(7)
    hardness = random.gamma(2, 1, 60)
    first = hardness + random.normal(0, 0.02, 60)
    second = hardness + 0.05 + random.normal(0, 0.02, 60)
    alike = first + random.normal(0, 0.02, 60)
    asked = [no_farther_than("another")]
    outcomes = [judge(scores_of(first, other), asked, 200).outcome for other in (second, alike)]
    assert outcomes == ["passed", "undecided"]
    assert judge(scores_of(second, first), asked, 200).outcome == "failed"
    assert interval(first.tolist()).high > interval(second.tolist()).low


def test_the_closer_of_two_real_files_is_known_before_a_third_of_the_text_is_read(
    real_chunks: list[ModelScores],
) -> None:
    shuffled = [real_chunks[index] for index in random_order(len(real_chunks))]
    outcome, count = first_decision(shuffled, no_farther_than("three bits"))
    assert outcome == "passed"
    assert count < len(real_chunks) / 3


def test_chunks_are_visited_in_an_order_that_is_random_and_the_same_every_time() -> None:
    assert random_order(50) == random_order(50) != list(range(50))
    assert sorted(random_order(50, 1)) == list(range(50))
