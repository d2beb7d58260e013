"""A divergence as text and as JSON: every statistic with its error, as llama-perplexity rounds them, and the verdict."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from toolkit.measures.divergence_statistics import Divergence, Estimate
from toolkit.measures.paired import Answer, Bounds, Verdict
from toolkit.render.loading import devices_document, text_document
from toolkit.verbs.kld import KldResult

KEYS = ("mean_kld", "median_kld", "p99_kld", "p999_kld", "max_kld", "same_top_fraction", "perplexity_ratio")
"""null where logits are not finite"""


@dataclass(frozen=True)
class _Statistic:
    """A statistic by its key in JSON and its title in text; without a title it is in JSON only."""

    key: str
    title: str
    of: Callable[[Divergence], Estimate | float]
    is_share: bool = False
    """written in per cent in text"""

    def text(self, result: Divergence) -> str:
        """Return the value as llama-perplexity rounds it."""
        value = self.of(result)
        if isinstance(value, float):
            return f"{value:.6f}"
        return _percent(value) if self.is_share else _plus_minus(value)

    def document(self, result: Divergence) -> dict[str, float]:
        """Return the value, with its standard error if it has one."""
        value = self.of(result)
        if isinstance(value, float):
            return {self.key: value}
        return {self.key: value.value, f"{self.key}_standard_error": value.error}


_PERCENTILES = (
    (0.999, "p999", "99.9 %"), (0.99, "p99", "99 %"), (0.95, "p95", "95 %"), (0.9, "p90", "90 %"), (0.75, "p75", ""),
    (0.5, "median", "median"), (0.25, "p25", ""), (0.1, "p10", ""), (0.05, "p05", ""), (0.01, "p01", ""), (0.001, "p001", ""),
)  # fmt: skip


def _kld_percentile(fraction: float, name: str, title: str) -> _Statistic:
    return _Statistic(
        f"{name}_kld", f"KLD {title}" if title else "", lambda result: result.divergence.percentiles[fraction]
    )


_STATISTICS = (
    _Statistic("perplexity", "PPL", lambda result: result.perplexity),
    _Statistic("base_perplexity", "PPL of the base", lambda result: result.base_perplexity),
    _Statistic("perplexity_ratio", "PPL / PPL of the base", lambda result: result.perplexity_ratio),
    _Statistic("log_perplexity_ratio", "ln of that", lambda result: result.log_ratio),
    _Statistic("perplexity_difference", "", lambda result: result.perplexity_difference),
    _Statistic("correlation", "", lambda result: result.correlation),
    _Statistic("mean_kld", "KLD mean", lambda result: result.divergence.mean),
    _Statistic("max_kld", "KLD maximum", lambda result: result.divergence.maximum),
    *(_kld_percentile(*percentile) for percentile in _PERCENTILES),
    _Statistic("min_kld", "", lambda result: result.divergence.minimum),
    _Statistic("mean_delta_p", "Δp mean", lambda result: result.delta_p.mean, is_share=True),
    _Statistic("rms_delta_p", "Δp RMS", lambda result: result.rms_delta_p, is_share=True),
    _Statistic("same_top_fraction", "same top token", lambda result: result.same_top, is_share=True),
)
"""All statistics in the order of the text; JSON has the same."""


def kld_lines(result: KldResult) -> list[str]:
    """Return the statistics, and how far another file is from the same base."""
    lines = _divergence_lines(result.measured.divergence)
    if result.against is not None and result.verdict is not None:
        other = result.against
        lines += _against_lines(other.gguf.name, other.divergence, result.verdict.answers[-1])
    return lines


def kld_document(result: KldResult) -> dict[str, Any]:
    """Return the JSON document of a divergence."""
    other = result.against
    against = None if other is None else {"model": str(other.gguf), **_divergence_document(other.divergence)}
    return {
        "model": str(result.measured.gguf),
        "base": str(result.base),
        **text_document(result.text),
        "devices": devices_document(result.measured.devices),
        "against_devices": None if other is None else devices_document(other.devices),
        "base_devices": None if result.base_devices is None else devices_document(result.base_devices),
        "seconds": result.seconds,
        **_divergence_document(result.measured.divergence),
        "against": against,
        **_verdict_document(result.verdict),
    }


def verdict_sentence(verdict: Verdict) -> str:
    """Return whether the thresholds are kept, and how sure that is."""
    certainty = f"{_certainty(verdict)}, after {verdict.chunks} of {verdict.total} chunks"
    if verdict.holds:
        return f"all thresholds are kept ({certainty})"
    worst = next(
        answer
        for answer in verdict.answers
        if answer.outcome == "failed" or answer.interval.mean > answer.question.threshold
    )
    return (
        f"{worst.question.quantity} {worst.interval.mean:.6f} is above the threshold of "
        f"{worst.question.threshold:.6f} ({certainty})"
    )


def _divergence_document(result: Divergence) -> dict[str, Any]:
    delta_p = result.delta_p
    return {
        **{key: value for statistic in _STATISTICS for key, value in statistic.document(result).items()},
        "delta_p": {name: delta_p.percentiles[fraction] for fraction, name, _ in _PERCENTILES}
        | {"max": delta_p.maximum, "min": delta_p.minimum},
        "base_rounding": result.rounding,
        "tokens": result.tokens,
        "chunks": result.chunks,
        "n_ctx_seq": result.n_ctx_seq,
    }


def _divergence_lines(result: Divergence) -> list[str]:
    titled = [statistic for statistic in _STATISTICS if statistic.title]
    width = max(len(statistic.title) for statistic in titled)
    return [f"{statistic.title:<{width}}  {statistic.text(result)}" for statistic in titled] + [
        f"{result.tokens:,} tokens in {result.chunks:,} chunks of {result.n_ctx_seq:,}; the base's log-probabilities are "
        f"stored in 16 bits, exact to {result.rounding:.1e}, so that a model's divergence from itself is not exactly 0"
    ]


def _against_lines(name: str, result: Divergence, answer: Answer) -> list[str]:
    """Return how far another model is from the same base, and by how much the first one is farther."""
    return [
        f"{name}: PPL {_plus_minus(result.perplexity)}, KLD mean {_plus_minus(result.divergence.mean)}, "
        f"same top token {_percent(result.same_top)}",
        f"{answer.question.quantity}: {answer.interval.mean:.6f} ({_bounds(answer)})",
    ]


def _bounds(answer: Answer) -> str:
    """Return the bounds of the mean of the whole text that the chunks so far allow."""
    interval = answer.interval
    if answer.clip is None:
        return "over the whole text"
    if not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return "too few chunks for bounds"
    clipped = f", which {answer.clipped_chunks} exceeded" if answer.clipped_chunks else ""
    bounds = f"{interval.low:.6f} to {interval.high:.6f}"
    return f"{bounds} over the whole text, chunks counted within ±{answer.clip.high:.3g}{clipped}"


def _plus_minus(estimate: Estimate) -> str:
    return f"{estimate.value:.6f} ± {estimate.error:.6f}"


def _percent(estimate: Estimate) -> str:
    return f"{100 * estimate.value:.3f} ± {100 * estimate.error:.3f} %"


def _verdict_document(verdict: Verdict | None) -> dict[str, Any]:
    """Return the part of a document that judges; null where nothing was asked."""
    if verdict is None:
        return {"verdict": None}
    answers = [
        {
            "quantity": answer.question.quantity,
            "threshold": answer.question.threshold,
            "outcome": answer.outcome,
            "mean": answer.interval.mean,
            "low": answer.interval.low,
            "high": answer.interval.high,
            **_counted_document(answer),
        }
        for answer in verdict.answers
    ]
    return {
        "verdict": {
            "holds": verdict.holds,
            "outcome": verdict.outcome,
            "confidence": 1.0 if verdict.is_exact else 1 - verdict.alpha,
            "chunks": verdict.chunks,
            "chunks_available": verdict.total,
            "questions": answers,
        }
    }


def _counted_document(answer: Answer) -> dict[str, Any]:
    """Return the range that the values of chunks were clipped to, null where they were not, and what that took away."""
    clip = answer.clip
    return {
        "counted_from": clip.low if clip is not None else None,
        "counted_to": clip.high if clip is not None else None,
        "cut_chunks": answer.clipped_chunks,
        "cut_mean": answer.clipped_off_mean,
    }


def _certainty(verdict: Verdict) -> str:
    if verdict.is_exact:
        return "the mean of this text itself"
    if verdict.outcome == "undecided":
        return "by the means of what was measured; more text is needed to be sure"
    clipped = [
        f"{answer.question.quantity} counted {_within(answer.clip)} a chunk"
        for answer in verdict.answers
        if answer.clip is not None and not answer.clip.is_natural
    ]
    return ", ".join([f"decided with {1 - verdict.alpha:.0%} confidence for the mean of this text", *clipped])


def _within(bounds: Bounds) -> str:
    return f"up to {bounds.high:.3g}" if bounds.natural_low else f"within ±{bounds.high:.3g}"
