"""Statistics of a comparison with a base model, each with the error that llama-perplexity prints beside it.

Source: `kl_divergence()` in tools/perplexity/perplexity.cpp of llama.cpp (commit 0c1e570).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy
from numpy.typing import NDArray

Floats = NDArray[numpy.float32]
Doubles = NDArray[numpy.float64]

_FEWEST_FOR_AN_ERROR = 10
PERCENTILES = (0.999, 0.99, 0.95, 0.9, 0.75, 0.5, 0.25, 0.1, 0.05, 0.01, 0.001)


@dataclass(frozen=True)
class TokenScores:
    """The scores of a run of tokens; all arrays have one entry a token."""

    nll: Floats
    """negative log-likelihood, in nats"""
    base_nll: Floats
    """the base model's"""
    divergence: Doubles
    same_top: NDArray[numpy.bool_]
    """whether both models rank the same token first"""
    rounding: Floats
    """how far a log-probability of the base may be from its stored value"""

    @property
    def are_finite(self) -> bool:
        """Tell whether no number is NaN or infinite."""
        return all(bool(numpy.isfinite(part).all()) for part in (self.nll, self.base_nll, self.divergence))

    @property
    def delta_p(self) -> Floats:
        """Return the probability of the right token less that which the base gives it."""
        # 64 bits, rounded: numpy's own 32-bit exponentials are off by a unit in the last place.
        p, base_p = (numpy.exp(-nll, dtype=numpy.float64).astype(numpy.float32) for nll in (self.nll, self.base_nll))
        return p - base_p


def join_scores(parts: Sequence[TokenScores]) -> TokenScores:
    """Return the scores of several runs of tokens as one."""
    return TokenScores(
        numpy.concatenate([part.nll for part in parts]),
        numpy.concatenate([part.base_nll for part in parts]),
        numpy.concatenate([part.divergence for part in parts]),
        numpy.concatenate([part.same_top for part in parts]),
        numpy.concatenate([part.rounding for part in parts]),
    )


@dataclass(frozen=True)
class Estimate:
    """A value and its standard error."""

    value: float
    error: float


@dataclass(frozen=True)
class Distribution:
    """Mean, extremes and percentiles of a quantity over the scored tokens."""

    mean: Estimate
    minimum: float
    maximum: float
    percentiles: dict[float, float]
    """by fraction: 0.5 is the median"""


@dataclass(frozen=True)
class ChunkScores:
    """Means of one chunk."""

    log_ratio: float
    divergence: float
    same_top: float


@dataclass(frozen=True)
class Divergence:
    """A model compared with its base over `tokens` scored tokens in `chunks` chunks of `n_ctx_seq`."""

    perplexity: Estimate
    base_perplexity: Estimate
    log_ratio: Estimate
    """ln(PPL / PPL of the base)"""
    perplexity_ratio: Estimate
    perplexity_difference: Estimate
    correlation: float
    """of both models' log-likelihoods"""
    divergence: Distribution
    delta_p: Distribution
    rms_delta_p: Estimate
    same_top: Estimate
    rounding: float
    """mean distance that the 16-bit storage allows between a log-probability and its stored value"""
    tokens: int
    chunks: int
    n_ctx_seq: int
    per_chunk: tuple[ChunkScores, ...] = field(repr=False)


def summarize(chunks: Sequence[TokenScores], n_ctx_seq: int) -> Divergence:
    """Return the statistics of chunks of scored tokens."""
    scores = join_scores(chunks)
    nll, base = mean_of(scores.nll), mean_of(scores.base_nll)
    covariance = _covariance(scores.nll, scores.base_nll)
    perplexity, base_perplexity = _exponential(nll), _exponential(base)
    log_ratio = Estimate(nll.value - base.value, _difference_error(nll.error, base.error, covariance))
    scale = perplexity.value * base_perplexity.value
    return Divergence(
        perplexity=perplexity,
        base_perplexity=base_perplexity,
        log_ratio=log_ratio,
        perplexity_ratio=_exponential(log_ratio),
        perplexity_difference=Estimate(
            perplexity.value - base_perplexity.value,
            _difference_error(perplexity.error, base_perplexity.error, scale * covariance),
        ),
        correlation=covariance / (nll.error * base.error) if nll.error and base.error else math.nan,
        divergence=_distribution(scores.divergence),
        delta_p=_distribution(scores.delta_p),
        rms_delta_p=_root_mean_square(scores.delta_p),
        same_top=_fraction(scores.same_top),
        rounding=float(scores.rounding.mean(dtype=numpy.float64)),
        tokens=len(scores.nll),
        chunks=len(chunks),
        n_ctx_seq=n_ctx_seq,
        per_chunk=tuple(chunk_scores(chunk) for chunk in chunks),
    )


def chunk_scores(chunk: TokenScores) -> ChunkScores:
    """Return the means of one chunk."""
    return ChunkScores(
        float((chunk.nll.astype(numpy.float64) - chunk.base_nll).mean()),
        float(chunk.divergence.mean()),
        float(chunk.same_top.mean()),
    )


def mean_of(values: Floats | Doubles) -> Estimate:
    """Return the mean and its standard error; squares are taken in the values' own precision and added in 64 bits."""
    count = len(values)
    mean = float(values.sum(dtype=numpy.float64)) / count
    variance = float((values * values).sum(dtype=numpy.float64)) / count - mean * mean
    error = math.sqrt(variance / (count - 1)) if variance > 0 and count > _FEWEST_FOR_AN_ERROR else 0.0
    return Estimate(mean, error)


def percentile(ordered: Floats, fraction: float) -> float:
    """Return a percentile of ascending values, between two of them where it falls there, all in 32 bits."""
    place = numpy.float32(fraction) * numpy.float32(len(ordered) - 1)
    index = int(place)
    part = numpy.float32(place - index)
    after = ordered[min(index + 1, len(ordered) - 1)]
    return float((numpy.float32(1) - part) * ordered[index] + part * after)


def _distribution(values: Floats | Doubles) -> Distribution:
    ordered = numpy.sort(values.astype(numpy.float32))
    places = {fraction: percentile(ordered, fraction) for fraction in PERCENTILES}
    return Distribution(mean_of(values), float(ordered[0]), float(ordered[-1]), places)


def _covariance(first: Floats, second: Floats) -> float:
    count = len(first)
    if count < _FEWEST_FOR_AN_ERROR:
        return 0.0
    means = float(first.sum(dtype=numpy.float64)) / count * (float(second.sum(dtype=numpy.float64)) / count)
    return (float((first * second).sum(dtype=numpy.float64)) / count - means) / (count - 1)


def _difference_error(first: float, second: float, covariance: float) -> float:
    return math.sqrt(max(0.0, first * first + second * second - 2 * covariance))


def _exponential(logarithm: Estimate) -> Estimate:
    value = math.exp(logarithm.value)
    return Estimate(value, value * logarithm.error)


def _root_mean_square(values: Floats) -> Estimate:
    squares = mean_of((values * values).astype(numpy.float64))
    root = math.sqrt(squares.value)
    return Estimate(root, 0.5 / root * squares.error if root else 0.0)


def _fraction(flags: NDArray[numpy.bool_]) -> Estimate:
    share, count = float(flags.mean()), len(flags)
    return Estimate(share, math.sqrt(share * (1 - share) / (count - 1)) if count > 1 else 0.0)
