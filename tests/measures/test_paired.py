import math

import numpy
import pytest

from toolkit.measures.divergence_statistics import ChunkScores
from toolkit.measures.paired import (
    FEWEST_WINDOWS,
    better,
    interval,
    judge,
    mean_divergence_at_most,
    perplexity_increase_at_most,
    random_order,
    same_top_at_least,
)

RUNS, WINDOWS = 300, 100
DRAWS = {
    "normal": lambda random: 1 + 0.2 * random.normal(0, 1, WINDOWS),
    "like a quantized model's KLD": lambda random: random.gamma(30, 1 / 30, WINDOWS),
    "skewed": lambda random: random.gamma(2, 1 / 2, WINDOWS),
    "exponential": lambda random: random.gamma(1, 1, WINDOWS),
    "of heavy tails": lambda random: 1 + random.standard_t(3, WINDOWS),
}


def chunks(values: numpy.ndarray) -> list[ChunkScores]:
    return [ChunkScores(float(value), float(value), 1 - float(value)) for value in values]


def first_decision(values: numpy.ndarray, threshold: float) -> tuple[str, int]:
    """Look after every window, as --until-decided does."""
    windows, question = chunks(values), mean_divergence_at_most(threshold)
    for count in range(FEWEST_WINDOWS, len(values) + 1):
        outcome = judge(windows[:count], [question]).outcome
        if outcome != "undecided":
            return outcome, count
    return "undecided", len(values)


@pytest.mark.parametrize("kind", DRAWS)
def test_looking_after_every_window_is_wrong_in_at_most_one_case_of_twenty(kind: str) -> None:
    random = numpy.random.default_rng(1)
    # The true mean is the threshold itself, so that a decision either way is wrong.
    decided = sum(first_decision(DRAWS[kind](random), 1.0)[0] != "undecided" for _ in range(RUNS))
    # Two standard deviations of the count beyond 5 %: chance in this simulation, not leave to be wrong.
    assert decided <= 0.05 * RUNS + 2 * math.sqrt(0.05 * 0.95 * RUNS)


@pytest.mark.parametrize(("threshold", "expected"), [(0.8, "failed"), (1.2, "passed")])
def test_a_clear_difference_needs_less_than_a_third_of_the_text(threshold: float, expected: str) -> None:
    random = numpy.random.default_rng(2)
    found = [first_decision(DRAWS["like a quantized model's KLD"](random), threshold) for _ in range(100)]
    assert sum(outcome == expected for outcome, _ in found) >= 99
    assert numpy.mean([count for _, count in found]) < WINDOWS / 3


def test_nothing_is_decided_on_a_handful_of_windows() -> None:
    few = chunks(numpy.full(FEWEST_WINDOWS - 1, 0.5))
    assert judge(few, [mean_divergence_at_most(1)]).outcome == "undecided"
    assert judge([*few, few[0]], [mean_divergence_at_most(1)]).outcome == "passed"
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
    windows = chunks(numpy.random.default_rng(5).normal(0.5, 0.01, 40))
    alone = judge(windows, [mean_divergence_at_most(0.6)])
    together = judge(windows, [mean_divergence_at_most(0.6), perplexity_increase_at_most(1.0), same_top_at_least(0.4)])
    assert together.outcome == "passed"
    assert together.answers[0].found.high > alone.answers[0].found.high
    mixed = judge(windows, [mean_divergence_at_most(0.6), same_top_at_least(0.9)])
    assert [answer.outcome for answer in mixed.answers] == ["passed", "failed"]
    assert mixed.outcome == "failed"
    assert not mixed.holds


def test_without_a_decision_the_mean_of_the_text_speaks() -> None:
    values = numpy.random.default_rng(6).normal(0.5, 0.3, 20)
    for distance, holds in ((0.05, True), (-0.05, False)):
        verdict = judge(chunks(values), [mean_divergence_at_most(values.mean() + distance)])
        assert (verdict.outcome, verdict.holds) == ("undecided", holds)


def test_the_better_of_two_models_shows_in_their_differences_long_before_their_means() -> None:
    random = numpy.random.default_rng(7)
    hardness = random.gamma(2, 1, 60)
    first = hardness + random.normal(0, 0.02, 60)
    second = hardness + 0.05 + random.normal(0, 0.02, 60)
    assert better(first.tolist(), second.tolist()) == "first"
    assert better(second.tolist(), first.tolist()) == "second"
    assert better(first.tolist(), (first + random.normal(0, 0.02, 60)).tolist()) is None
    assert interval(first.tolist()).high > interval(second.tolist()).low


def test_windows_are_visited_in_an_order_that_is_random_and_the_same_every_time() -> None:
    assert random_order(50) == random_order(50) != list(range(50))
    assert sorted(random_order(50, 1)) == list(range(50))
