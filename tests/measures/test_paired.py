import math
from contextlib import ExitStack
from dataclasses import replace

import numpy
import pytest
from demo_model import convert_demo

from toolkit.llama.runtime import LlamaRuntime
from toolkit.llama.runtime_settings import RuntimeSettings
from toolkit.measures.divergence import LiveBase, measure_divergences
from toolkit.measures.divergence_statistics import ChunkScores
from toolkit.measures.evaluation_text import read_text
from toolkit.measures.paired import (
    FEWEST_WINDOWS,
    Question,
    Window,
    interval,
    judge,
    mean_divergence_at_most,
    no_farther_than,
    perplexity_increase_at_most,
    random_order,
    same_top_at_least,
)
from toolkit.measures.perplexity import cut_windows

RUNS, WINDOWS = 300, 100
DRAWS = {
    "normal": lambda random: 1 + 0.2 * random.normal(0, 1, WINDOWS),
    "like a quantized model's KLD": lambda random: random.gamma(30, 1 / 30, WINDOWS),
    "skewed": lambda random: random.gamma(2, 1 / 2, WINDOWS),
    "exponential": lambda random: random.gamma(1, 1, WINDOWS),
    "of heavy tails": lambda random: 1 + random.standard_t(3, WINDOWS),
}


def chunks(*models: numpy.ndarray) -> list[Window]:
    return [
        [ChunkScores(float(value), float(value), 1 - float(value)) for value in window]
        for window in zip(*models, strict=True)
    ]


def first_decision(windows: list[Window], question: Question) -> tuple[str, int]:
    """Look after every window, as --until-decided does."""
    for count in range(FEWEST_WINDOWS, len(windows) + 1):
        outcome = judge(windows[:count], [question]).outcome
        if outcome != "undecided":
            return outcome, count
    return "undecided", len(windows)


def assert_at_most_one_of_twenty(wrong: int) -> None:
    # Two standard deviations of the count beyond 5 %: chance in this simulation, not leave to be wrong.
    assert wrong <= 0.05 * RUNS + 2 * math.sqrt(0.05 * 0.95 * RUNS)


@pytest.mark.parametrize("kind", DRAWS)
def test_looking_after_every_window_is_wrong_in_at_most_one_case_of_twenty(kind: str) -> None:
    random = numpy.random.default_rng(1)
    # The true mean is the threshold itself, so that a decision either way is wrong.
    question = mean_divergence_at_most(1.0)
    outcomes = [first_decision(chunks(DRAWS[kind](random)), question)[0] for _ in range(RUNS)]
    assert_at_most_one_of_twenty(RUNS - outcomes.count("undecided"))


@pytest.fixture(scope="module")
def real_windows(tmp_path_factory: pytest.TempPathFactory) -> list[Window]:
    """Give the scores of the demo model in 4 and in 3 bits on windows of Python's own text."""
    folder = tmp_path_factory.mktemp("demo")
    settings = RuntimeSettings(n_ctx=8 * 32, n_batch=256, n_ubatch=256, n_threads=1, n_parallel=8)
    with ExitStack() as stack:
        four, three, base = (
            stack.enter_context(LlamaRuntime(convert_demo(folder, profile), settings))
            for profile in ("q4_k_m", "q3_k_m", "bf16")
        )
        windows = cut_windows(base.tokenize(read_text().text), 32, 100)
        found = measure_divergences((four, three), LiveBase(base), windows)
    return list(zip(*(model.per_chunk for model in found), strict=True))


@pytest.mark.parametrize(
    "question",
    [mean_divergence_at_most(1), perplexity_increase_at_most(1), same_top_at_least(1), no_farther_than("another")],
    ids=lambda question: question.quantity,
)
def test_on_windows_of_a_real_text_it_is_not_wrong_more_often(real_windows: list[Window], question: Question) -> None:
    random = numpy.random.default_rng(8)
    truth = float(numpy.mean([question.value_of(window) for window in real_windows]))
    outcomes = []
    for _ in range(RUNS):
        # Drawn with replacement, so that the mean of these windows is the true one.
        drawn = [real_windows[index] for index in random.integers(0, len(real_windows), 60)]
        outcomes.append(first_decision(drawn, replace(question, threshold=truth))[0])
    assert_at_most_one_of_twenty(RUNS - outcomes.count("undecided"))


@pytest.mark.parametrize(("threshold", "expected"), [(0.8, "failed"), (1.2, "passed")])
def test_a_clear_difference_needs_less_than_a_third_of_the_text(threshold: float, expected: str) -> None:
    random = numpy.random.default_rng(2)
    draw, question = DRAWS["like a quantized model's KLD"], mean_divergence_at_most(threshold)
    found = [first_decision(chunks(draw(random)), question) for _ in range(100)]
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
    alike = first + random.normal(0, 0.02, 60)
    asked = [no_farther_than("another")]
    outcomes = [judge(chunks(first, other), asked).outcome for other in (second, alike)]
    assert outcomes == ["passed", "undecided"]
    assert judge(chunks(second, first), asked).outcome == "failed"
    assert interval(first.tolist()).high > interval(second.tolist()).low


def test_the_closer_of_two_real_files_is_known_before_a_third_of_the_text_is_read(real_windows: list[Window]) -> None:
    shuffled = [real_windows[index] for index in random_order(len(real_windows))]
    outcome, count = first_decision(shuffled, no_farther_than("three bits"))
    assert outcome == "passed"
    assert count < len(real_windows) / 3


def test_windows_are_visited_in_an_order_that_is_random_and_the_same_every_time() -> None:
    assert random_order(50) == random_order(50) != list(range(50))
    assert sorted(random_order(50, 1)) == list(range(50))
