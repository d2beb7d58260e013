"""Decide a question about a comparison as soon as the windows measured so far settle it.

Both models see the same windows, so each window gives one paired value: its mean divergence, the difference of its
log-likelihoods. The question is about their mean over all windows of this text. Once all were seen it is known; before,
`sequential` bounds it, whatever the values, so that looking each time and stopping early is wrong in at most `alpha`.

That takes values in bounds. Shares of tokens have them. Others are counted within bounds that are fixed before the first
of them is judged, and said: a divergence up to CUT times the threshold, because as long as no window was that far beyond it, a
pass says little of windows that are farther. Once a window was cut that would speak against the answer, only the whole
text gives it. Windows are to be visited in random order (`random_order`).

`interval` is another matter: what a text that was read says of texts like it. It holds for many windows, without rare outliers.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy
from numpy.typing import NDArray

from toolkit.measures.divergence_statistics import ChunkScores, Doubles
from toolkit.measures.sequential import capitals, mean_above, mean_below

ALPHA = 0.05
CUT = 5
"""times the threshold: what a window is counted at, at most"""
LEAST_CUT = 1e-6
CUT_LOG_RATIO = 0.1
"""nats: a window's perplexity changes by this much at least before it is cut"""
SCALE_WINDOWS = 5
"""give the bounds of differences, and are not bet on"""
FEWEST_WINDOWS = 30

Outcome = Literal["passed", "failed", "undecided"]
Flags = NDArray[numpy.bool_]
Window = Sequence[ChunkScores]
"""the scores of all models on one window, those of the model that is judged first"""


@dataclass(frozen=True)
class Bounds:
    """Between what values a window is counted; those that a quantity cannot exceed by its nature cut nothing."""

    low: float
    high: float
    natural_low: bool = False
    natural_high: bool = False
    known_after: int = 0
    """windows that gave these bounds"""

    @property
    def is_natural(self) -> bool:
        """Tell whether nothing can lie outside."""
        return self.natural_low and self.natural_high

    def scaled(self, values: Doubles | float) -> Doubles:
        """Return values as they count, from 0 to 1."""
        scaled: Doubles = (numpy.clip(values, self.low, self.high) - self.low) / (self.high - self.low)
        return scaled

    def are_above(self, values: Doubles) -> Flags:
        """Tell which values are cut at the upper bound."""
        return (values > self.high) & (not self.natural_high)

    def are_below(self, values: Doubles) -> Flags:
        """Tell which values are cut at the lower bound."""
        return (values < self.low) & (not self.natural_low)


@dataclass(frozen=True)
class Question:
    """Whether the mean of a quantity over the windows of a text is at most `threshold`."""

    quantity: str
    threshold: float
    value_of: Callable[[Window], float]
    bounds_of: Callable[[Doubles], Bounds]
    """the values so far -> bounds, which depend on the first `known_after` of them at most"""


@dataclass(frozen=True)
class Interval:
    """The mean of what was seen, and between what bounds the mean of all lies."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Answer:
    """What the windows so far say to a question."""

    question: Question
    outcome: Outcome
    found: Interval
    """each bound is wrong in at most `alpha`, and is one of the mean of values that are counted within `counted`"""
    counted: Bounds | None = None
    """None where all windows were seen, and count as they are"""
    cut_windows: int = 0
    cut_mean: float = 0.0
    """by how much cutting lowered the mean of what was seen"""


@dataclass(frozen=True)
class Verdict:
    """The answers to all questions; every one has to be passed."""

    answers: tuple[Answer, ...]
    windows: int
    total: int
    """windows of the text"""
    alpha: float

    @property
    def outcome(self) -> Outcome:
        """Return `failed` if one question is, `passed` if all are."""
        outcomes = {answer.outcome for answer in self.answers}
        if "failed" in outcomes:
            return "failed"
        return "undecided" if "undecided" in outcomes else "passed"

    @property
    def is_exact(self) -> bool:
        """Tell whether all of the text was seen."""
        return self.windows == self.total

    @property
    def holds(self) -> bool:
        """Tell whether the thresholds are kept: as decided, or else by the means of what was measured."""
        return self.outcome != "failed" and all(
            answer.outcome == "passed" or answer.found.mean <= answer.question.threshold for answer in self.answers
        )


def mean_divergence_at_most(threshold: float) -> Question:
    """Ask whether the mean Kullback-Leibler divergence is at most a threshold."""
    # Below 0 is what the storage of the base's logits makes of no divergence.
    bounds = Bounds(0.0, max(CUT * threshold, LEAST_CUT), natural_low=True)
    return Question("mean KLD", threshold, lambda window: window[0].divergence, lambda _: bounds)


def perplexity_increase_at_most(share: float) -> Question:
    """Ask whether the perplexity grew by at most a share (0.01 is one per cent); the values are logarithms."""
    threshold = math.log1p(share)
    cut = max(CUT * abs(threshold), CUT_LOG_RATIO)
    return Question(
        "ln of the perplexity ratio", threshold, lambda window: window[0].log_ratio, lambda _: Bounds(-cut, cut)
    )


def same_top_at_least(share: float) -> Question:
    """Ask whether both models agree on the likeliest token at least that often; values are shares of disagreement."""
    bounds = Bounds(0.0, 1.0, natural_low=True, natural_high=True)
    return Question("share of other top tokens", 1 - share, lambda window: 1 - window[0].same_top, lambda _: bounds)


def no_farther_than(rival: str) -> Question:
    """Ask whether the mean divergence is at most that of the second model, from differences on the same windows.

    The first windows tell how large differences are; all are counted up to CUT times that.
    """

    def bounds_of(values: Doubles) -> Bounds:
        cut = max(CUT * float(numpy.abs(values[:SCALE_WINDOWS]).mean()), LEAST_CUT)
        return Bounds(-cut, cut, known_after=SCALE_WINDOWS)

    return Question(
        f"mean KLD less that of {rival}", 0.0, lambda window: window[0].divergence - window[1].divergence, bounds_of
    )


def judge(windows: Sequence[Window], questions: Sequence[Question], total: int, alpha: float = ALPHA) -> Verdict:
    """Return what windows of a text that has `total` say, all answers together wrong in at most `alpha` of the cases."""
    answers = tuple(_answer(windows, question, total, alpha / len(questions)) for question in questions)
    return Verdict(answers, len(windows), total, alpha)


def random_order(count: int, seed: int = 0) -> list[int]:
    """Return the numbers below `count` in the order in which windows are visited."""
    return [int(index) for index in numpy.random.default_rng(seed).permutation(count)]


def interval(values: Sequence[float], alpha: float = ALPHA) -> Interval:
    """Return the mean of values and Student's interval for that of all like them, infinite where there are few or all are equal.

    The side of a long tail is moved outwards as N. J. Johnson's modified t does (1978), twice over.
    """
    count = len(values)
    mean = float(numpy.mean(values)) if count else math.nan
    deviations = numpy.asarray(values, numpy.float64) - mean
    if count < FEWEST_WINDOWS or not deviations.any():
        return Interval(mean, -math.inf, math.inf)
    deviation = float(numpy.sqrt((deviations**2).sum() / (count - 1)))
    error, width = deviation / math.sqrt(count), student_quantile(1 - alpha / 2, count - 1)
    skewness = float((deviations**3).mean()) / deviation**3
    shift = 2 * skewness * error * (1 + 2 * width**2) / (6 * math.sqrt(count))
    radius = width * error
    return Interval(mean, mean - radius + min(shift, 0.0), mean + radius + max(shift, 0.0))


def student_quantile(probability: float, freedom: int) -> float:
    """Return a quantile of Student's t, to three decimals from 29 degrees of freedom on.

    Source: Abramowitz and Stegun, "Handbook of mathematical functions", 26.7.5.
    """
    z = NormalDist().inv_cdf(probability)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    corrections: float = sum(term / freedom**power for power, term in enumerate(terms, 1))
    return z + corrections


def decisions(values: Doubles, question: Question, total: int, alpha: float = ALPHA) -> list[Outcome]:
    """Return what is said after each value by who looks every time."""
    bounds = question.bounds_of(values)
    counted, threshold = bounds.scaled(values), float(bounds.scaled(question.threshold))
    passed = _wins(1 - counted, 1 - threshold, total, alpha, bounds) & ~_ever(bounds.are_above(values))
    failed = _wins(counted, threshold, total, alpha, bounds) & ~_ever(bounds.are_below(values))
    passed[: bounds.known_after] = failed[: bounds.known_after] = False
    if len(values) == total:
        passed[-1] = values.mean() <= question.threshold
        failed[-1] = not passed[-1]
    return ["passed" if good else "failed" if bad else "undecided" for good, bad in zip(passed, failed, strict=True)]


def _wins(scaled: Doubles, mean: float, total: int, alpha: float, bounds: Bounds) -> Flags:
    """Tell after each value whether a mean above `mean` is sure."""
    return _ever(capitals(scaled, mean, total, bounds.known_after) >= 1 / alpha)


def _ever(flags: Flags) -> Flags:
    return numpy.logical_or.accumulate(flags)


def _answer(windows: Sequence[Window], question: Question, total: int, alpha: float) -> Answer:
    values = numpy.array([question.value_of(window) for window in windows], numpy.float64)
    mean = float(values.mean()) if len(values) else math.nan
    outcome: Outcome = decisions(values, question, total, alpha)[-1] if len(values) else "undecided"
    if len(values) == total:
        return Answer(question, outcome, Interval(mean, mean, mean))
    bounds = question.bounds_of(values)
    if len(values) <= bounds.known_after:
        return Answer(question, outcome, Interval(mean, -math.inf, math.inf), bounds)
    scaled = bounds.scaled(values)
    low, high = (
        bounds.low + (bounds.high - bounds.low) * bound(scaled, total, alpha, bounds.known_after)
        for bound in (mean_above, mean_below)
    )
    # Bounds are found by halving: what was decided at the threshold itself is exact.
    high = min(high, question.threshold) if outcome == "passed" else high
    low = max(low, question.threshold) if outcome == "failed" else low
    cut = bounds.are_below(values) | bounds.are_above(values)
    cut_mean = float((values - numpy.clip(values, bounds.low, bounds.high)).mean())
    return Answer(question, outcome, Interval(mean, low, high), bounds, int(cut.sum()), cut_mean)
