"""From a measured divergence to what a comparison keeps of it: figures with bounds, and the evidence of a verdict."""

import math
import sys
from collections.abc import Sequence

import numpy

from toolkit.comparison.rows import DivergenceFigures, Quality, Row
from toolkit.measures.divergence_statistics import Divergence, Doubles, Estimate, mean_of
from toolkit.measures.paired import Interval
from toolkit.measures.verdict import Measured, Measurement

DEVIATIONS = 1.96
"""Standard errors to each side of an interval that holds the true value in 95 % of the cases."""
TAIL = 0.999
_MAX_LOG = math.log(sys.float_info.max)


def divergence_figures(divergence: Divergence, values: Sequence[Doubles]) -> DivergenceFigures:
    """Return what is kept of a divergence; `values` are the divergences of every token, chunk by chunk."""
    chunks, percentiles = divergence.per_chunk, divergence.divergence.percentiles
    return DivergenceFigures(
        mean=_wider(divergence.divergence.mean, [chunk.divergence for chunk in chunks]),
        median=percentiles[0.5],
        p99=percentiles[0.99],
        p999=percentile_interval(numpy.concatenate(values), TAIL, percentiles[TAIL]),
        maximum=divergence.divergence.maximum,
        same_top=_wider(divergence.same_top, [chunk.same_top for chunk in chunks]),
        log_ratio=_wider(divergence.log_ratio, [chunk.log_ratio for chunk in chunks]),
        perplexity_ratio=divergence.perplexity_ratio.value,
        rounding=divergence.rounding,
        per_chunk=chunks,
    )


def percentile_interval(values: Doubles, fraction: float, value: float) -> Interval:
    """Return a percentile with bounds that hold for any distribution: how many values lie beyond it is binomial.

    Where fewer than four lie beyond, nothing bounds it from above.
    """
    ordered, count = numpy.sort(values), len(values)
    place, spread = fraction * count, DEVIATIONS * math.sqrt(count * fraction * (1 - fraction))
    low, high = max(0, math.floor(place - spread) - 1), math.ceil(place + spread) - 1
    return Interval(value, min(value, float(ordered[low])), float(ordered[high]) if high < count else math.inf)


def measurements_of(row: Row) -> tuple[Measurement, ...]:
    """Return the evidence that a row gives to verdicts."""
    return tuple(measurement_of(quality) for quality in row.qualities)


def measurement_of(quality: Quality) -> Measurement:
    """Return the evidence that one text gives."""
    figures, key = quality.divergence, quality.key
    values = {}
    if figures is not None:
        ratio = _bounds(figures.log_ratio)
        values = {
            "mean_kld": _bounds(figures.mean),
            "p999_kld": Measured(figures.p999.mean, figures.p999.low, figures.p999.high),
            "same_top": _bounds(figures.same_top),
            "perplexity_ratio": Measured(figures.perplexity_ratio, _exp(ratio.low), _exp(ratio.high)),
        }
    return Measurement(quality.kind, quality.text, key.text_sha256, key.n_ctx_seq, key.chunks, values)


def _exp(logarithm: float) -> float:
    return math.exp(logarithm) if logarithm < _MAX_LOG else math.inf


def _bounds(estimate: Estimate) -> Measured:
    radius = DEVIATIONS * estimate.error
    return Measured(estimate.value, estimate.value - radius, estimate.value + radius)


def _wider(estimate: Estimate, chunks: Sequence[float]) -> Estimate:
    """Return an estimate with the error between chunks, where it is larger: tokens of one chunk are alike."""
    between = mean_of(numpy.asarray(chunks, numpy.float64)).error if len(chunks) > 1 else 0.0
    return Estimate(estimate.value, max(estimate.error, between))
