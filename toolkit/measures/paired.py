"""Decide a question about a comparison as soon as the windows measured so far settle it.

Both models see the same windows, so each window gives one paired value: its mean divergence, the difference of its
log-likelihoods. The values are watched by a confidence sequence, an interval that holds after every window at once, so
that looking each time and stopping early does not raise the rate of wrong verdicts above `alpha`:

    mean ± deviation * sqrt(2 (t r² + 1) / (t² r²) * ln(sqrt(t r² + 1) / alpha))

after t windows, with r such that it is tightest at TIGHTEST_AT windows (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas,
"Time-uniform central limit theory and asymptotic confidence sequences", theorem 2.2, arXiv:2103.06476). It holds
asymptotically: before FEWEST_WINDOWS nothing is decided, the deviation is widened as Student's t is for few values, and
the side of a long tail is moved outwards as N. J. Johnson's modified t does (1978), twice over. In simulations of 2000
runs of 200 windows, 1 to 4 % of the intervals ever missed the mean of normal, Student, gamma and exponential values.
Neighbouring windows of a text are alike, so they are to be visited in random order (`random_order`).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy

from toolkit.measures.divergence_statistics import ChunkScores

FEWEST_WINDOWS = 10
TIGHTEST_AT = 30
ALPHA = 0.05
_FEW_VALUES = 3.5

Outcome = Literal["passed", "failed", "undecided"]
Window = Sequence[ChunkScores]
"""the scores of all models on one window, those of the model that is judged first"""


@dataclass(frozen=True)
class Question:
    """Whether the mean of a quantity over windows is at most `threshold`."""

    quantity: str
    threshold: float
    value_of: Callable[[Window], float]


@dataclass(frozen=True)
class Interval:
    """A mean, and between what bounds the true one lies."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Answer:
    """What the windows so far say to a question."""

    question: Question
    outcome: Outcome
    found: Interval


@dataclass(frozen=True)
class Verdict:
    """The answers to all questions; every one has to be passed."""

    answers: tuple[Answer, ...]
    windows: int
    alpha: float

    @property
    def outcome(self) -> Outcome:
        """Return `failed` if one question is, `passed` if all are."""
        outcomes = {answer.outcome for answer in self.answers}
        if "failed" in outcomes:
            return "failed"
        return "undecided" if "undecided" in outcomes else "passed"

    @property
    def holds(self) -> bool:
        """Tell whether the thresholds are kept: as decided, or else by the means of what was measured."""
        return self.outcome != "failed" and all(
            answer.outcome == "passed" or answer.found.mean <= answer.question.threshold for answer in self.answers
        )


def mean_divergence_at_most(threshold: float) -> Question:
    """Ask whether the mean Kullback-Leibler divergence is at most a threshold."""
    return Question("mean KLD", threshold, lambda window: window[0].divergence)


def perplexity_increase_at_most(share: float) -> Question:
    """Ask whether the perplexity grew by at most a share (0.01 is one per cent); the values are logarithms."""
    return Question("ln of the perplexity ratio", math.log1p(share), lambda window: window[0].log_ratio)


def same_top_at_least(share: float) -> Question:
    """Ask whether both models agree on the likeliest token at least that often; values are shares of disagreement."""
    return Question("share of other top tokens", 1 - share, lambda window: 1 - window[0].same_top)


def no_farther_than(rival: str) -> Question:
    """Ask whether the mean divergence is at most that of the second model, from differences on the same windows."""
    return Question(f"mean KLD less that of {rival}", 0.0, lambda window: window[0].divergence - window[1].divergence)


def judge(windows: Sequence[Window], questions: Sequence[Question], alpha: float = ALPHA) -> Verdict:
    """Return what windows say to several questions, all answers together wrong in at most `alpha` of the cases."""
    answers = tuple(_answer(windows, question, alpha / len(questions)) for question in questions)
    return Verdict(answers, len(windows), alpha)


def random_order(count: int, seed: int = 0) -> list[int]:
    """Return the numbers below `count` in the order in which windows are visited."""
    return [int(index) for index in numpy.random.default_rng(seed).permutation(count)]


def interval(values: Sequence[float], alpha: float = ALPHA) -> Interval:
    """Return the mean of values and its confidence sequence, which is infinite while there are few."""
    count = len(values)
    mean = float(numpy.mean(values)) if count else math.nan
    if count < FEWEST_WINDOWS:
        return Interval(mean, -math.inf, math.inf)
    deviations = numpy.asarray(values, numpy.float64) - mean
    deviation = float(numpy.sqrt((deviations**2).sum() / (count - 1)))
    error, width = deviation / math.sqrt(count), _width(count, alpha)
    radius = width * error * (1 + _FEW_VALUES / (count - 1))
    skewness = float((deviations**3).mean()) / deviation**3 if deviation > 0 else 0.0
    shift = 2 * skewness * error * (1 + 2 * width**2) / (6 * math.sqrt(count))
    return Interval(mean, mean - radius + min(shift, 0.0), mean + radius + max(shift, 0.0))


def _width(count: int, alpha: float) -> float:
    """Return how many standard errors the confidence sequence reaches to each side after `count` windows."""
    spread = 2 * math.log(1 / alpha)
    r2 = (spread + math.log(spread + 1)) / TIGHTEST_AT
    grown = count * r2 + 1
    return math.sqrt(2 * grown / (count * r2) * math.log(math.sqrt(grown) / alpha))


def _answer(windows: Sequence[Window], question: Question, alpha: float) -> Answer:
    found = interval([question.value_of(window) for window in windows], alpha)
    outcome: Outcome = "undecided"
    if found.high <= question.threshold:
        outcome = "passed"
    elif found.low > question.threshold:
        outcome = "failed"
    return Answer(question, outcome, found)
