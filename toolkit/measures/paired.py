"""Answer a question about a comparison as soon as the chunks measured so far decide it.

Both models see the same chunks, so each chunk gives one paired value, such as its mean divergence or the difference of its
log-likelihoods. The question is about the mean of these values over all chunks of this text. After the last chunk the mean
is known; before, `sequential` bounds it for any values, so that looking after every chunk and stopping early is wrong with
a probability of at most `alpha`.

Such bounds need values of a limited range. Shares of tokens have one. Other values are clipped to a range that is fixed
before the first of them is judged, and that the answer names: a divergence counts as CLIP_FACTOR times the threshold at
most. A pass claims nothing of chunks beyond that range that were not seen. Once a clipped chunk speaks against the answer,
only the whole text gives one. Chunks have to be visited in random order (`random_order`).

`interval` answers another question: what a text that was read says of texts like it. It holds for many chunks without rare
outliers.
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
CLIP_FACTOR = 5
"""values are clipped at so many times the threshold"""
LEAST_CLIP = 1e-6
LEAST_CLIP_LOG_RATIO = 0.1
"""nats: the least value at which changes of the perplexity are clipped"""
SCALE_CHUNKS = 5
"""the first chunks, which give the range of differences and are not bet on"""
FEWEST_CHUNKS = 30

Outcome = Literal["passed", "failed", "undecided"]
Flags = NDArray[numpy.bool_]
ModelScores = Sequence[ChunkScores]
"""the scores of all models on one chunk, those of the model that is judged first"""


@dataclass(frozen=True)
class Bounds:
    """The range that values are clipped to; natural bounds are those that a quantity cannot exceed, so they clip nothing."""

    low: float
    high: float
    natural_low: bool = False
    natural_high: bool = False
    known_after: int = 0
    """number of chunks that gave these bounds"""

    @property
    def is_natural(self) -> bool:
        """Tell whether no value can lie outside."""
        return self.natural_low and self.natural_high

    def scaled(self, values: Doubles | float) -> Doubles:
        """Return values clipped and scaled to 0 to 1."""
        scaled: Doubles = (numpy.clip(values, self.low, self.high) - self.low) / (self.high - self.low)
        return scaled

    def are_above(self, values: Doubles) -> Flags:
        """Tell which values are clipped at the upper bound."""
        return (values > self.high) & (not self.natural_high)

    def are_below(self, values: Doubles) -> Flags:
        """Tell which values are clipped at the lower bound."""
        return (values < self.low) & (not self.natural_low)


@dataclass(frozen=True)
class Question:
    """Whether the mean of a quantity over the chunks of a text is at most `threshold`."""

    quantity: str
    threshold: float
    value_of: Callable[[ModelScores], float]
    bounds_of: Callable[[Doubles], Bounds]
    """gives the bounds for the values so far; they depend on no more than the first `known_after` values"""


@dataclass(frozen=True)
class Interval:
    """The mean of the values that were seen, and bounds of the mean of all values."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Answer:
    """What the chunks so far say about a question."""

    question: Question
    outcome: Outcome
    interval: Interval
    """each bound is wrong with a probability of at most `alpha`, and holds for the mean of values clipped to `clip`"""
    clip: Bounds | None = None
    """None where all chunks were seen, whose values are not clipped"""
    clipped_chunks: int = 0
    clipped_off_mean: float = 0.0
    """by how much clipping lowered the mean of the values that were seen"""


@dataclass(frozen=True)
class Verdict:
    """The answers to all questions; every one has to be passed."""

    answers: tuple[Answer, ...]
    chunks: int
    total: int
    """chunks of the text"""
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
        """Tell whether the whole text was measured."""
        return self.chunks == self.total

    @property
    def holds(self) -> bool:
        """Tell whether the thresholds are kept: as decided, or by the means so far where nothing is decided."""
        return self.outcome != "failed" and all(
            answer.outcome == "passed" or answer.interval.mean <= answer.question.threshold for answer in self.answers
        )


def mean_divergence_at_most(threshold: float) -> Question:
    """Ask whether the mean Kullback-Leibler divergence is at most a threshold."""
    # Values below 0 come from the 16 bits that the base's logits are stored in.
    bounds = Bounds(0.0, max(CLIP_FACTOR * threshold, LEAST_CLIP), natural_low=True)
    return Question("mean KLD", threshold, lambda chunk: chunk[0].divergence, lambda _: bounds)


def perplexity_increase_at_most(share: float) -> Question:
    """Ask whether the perplexity grew by at most a share (0.01 is one per cent); its values are logarithms."""
    threshold = math.log1p(share)
    clip = max(CLIP_FACTOR * abs(threshold), LEAST_CLIP_LOG_RATIO)
    return Question(
        "ln of the perplexity ratio", threshold, lambda chunk: chunk[0].log_ratio, lambda _: Bounds(-clip, clip)
    )


def same_top_at_least(share: float) -> Question:
    """Ask whether both models rank the same token first at least that often; its values are shares of disagreement."""
    bounds = Bounds(0.0, 1.0, natural_low=True, natural_high=True)
    return Question("share of other top tokens", 1 - share, lambda chunk: 1 - chunk[0].same_top, lambda _: bounds)


def no_farther_than(rival: str) -> Question:
    """Ask whether the mean divergence is at most that of the second model, from differences on the same chunks.

    The first chunks tell how large differences are; all are clipped at CLIP_FACTOR times that.
    """

    def bounds_of(values: Doubles) -> Bounds:
        clip = max(CLIP_FACTOR * float(numpy.abs(values[:SCALE_CHUNKS]).mean()), LEAST_CLIP)
        return Bounds(-clip, clip, known_after=SCALE_CHUNKS)

    return Question(
        f"mean KLD less that of {rival}", 0.0, lambda chunk: chunk[0].divergence - chunk[1].divergence, bounds_of
    )


def judge(chunks: Sequence[ModelScores], questions: Sequence[Question], total: int, alpha: float = ALPHA) -> Verdict:
    """Return the answers after the first chunks of a text of `total`; any of them is wrong with a probability of at most `alpha`."""
    answers = tuple(_answer(chunks, question, total, alpha / len(questions)) for question in questions)
    return Verdict(answers, len(chunks), total, alpha)


def random_order(count: int, seed: int = 0) -> list[int]:
    """Return the numbers below `count` in the order in which chunks are visited."""
    return [int(index) for index in numpy.random.default_rng(seed).permutation(count)]


def interval(values: Sequence[float], alpha: float = ALPHA) -> Interval:
    """Return the mean of values and Student's interval for the mean of all values like them; infinite where there are few, or all are equal.

    The side of a long tail is moved outwards as N. J. Johnson's modified t does (1978), twice over.
    """
    count = len(values)
    mean = float(numpy.mean(values)) if count else math.nan
    deviations = numpy.asarray(values, numpy.float64) - mean
    if count < FEWEST_CHUNKS or not deviations.any():
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
    """Return the outcome after each value, for a question that is asked after every one."""
    bounds = question.bounds_of(values)
    scaled, threshold = bounds.scaled(values), float(bounds.scaled(question.threshold))
    passed = _wins(1 - scaled, 1 - threshold, total, alpha, bounds) & ~_ever(bounds.are_above(values))
    failed = _wins(scaled, threshold, total, alpha, bounds) & ~_ever(bounds.are_below(values))
    passed[: bounds.known_after] = failed[: bounds.known_after] = False
    if len(values) == total:
        passed[-1] = values.mean() <= question.threshold
        failed[-1] = not passed[-1]
    return ["passed" if good else "failed" if bad else "undecided" for good, bad in zip(passed, failed, strict=True)]


def _wins(scaled: Doubles, mean: float, total: int, alpha: float, bounds: Bounds) -> Flags:
    """Tell after each value whether the mean is surely above `mean`."""
    return _ever(capitals(scaled, mean, total, bounds.known_after) >= 1 / alpha)


def _ever(flags: Flags) -> Flags:
    return numpy.logical_or.accumulate(flags)


def _answer(chunks: Sequence[ModelScores], question: Question, total: int, alpha: float) -> Answer:
    values = numpy.array([question.value_of(chunk) for chunk in chunks], numpy.float64)
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
    # Bounds are found by halving, but the decision at the threshold itself is exact.
    high = min(high, question.threshold) if outcome == "passed" else high
    low = max(low, question.threshold) if outcome == "failed" else low
    clipped = bounds.are_below(values) | bounds.are_above(values)
    clipped_off_mean = float((values - numpy.clip(values, bounds.low, bounds.high)).mean())
    return Answer(question, outcome, Interval(mean, low, high), bounds, int(clipped.sum()), clipped_off_mean)
