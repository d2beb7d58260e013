"""A divergence as text and as JSON: every statistic with its error, as llama-perplexity rounds them, and the verdict."""

import math
from typing import Any

from toolkit.measures.divergence_statistics import Distribution, Divergence, Estimate
from toolkit.measures.paired import Answer, Bounds, Verdict
from toolkit.render.loading import devices_document, text_document
from toolkit.verbs.kld import KldResult

KEYS = ("mean_kld", "median_kld", "p99_kld", "p999_kld", "max_kld", "same_top_fraction", "perplexity_ratio")
"""null where logits are not finite"""
_NAMES = {
    0.999: "p999", 0.99: "p99", 0.95: "p95", 0.9: "p90", 0.75: "p75", 0.5: "median", 0.25: "p25", 0.1: "p10", 0.05: "p05",
    0.01: "p01", 0.001: "p001",
}  # fmt: skip


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
    kld, delta_p = result.divergence, result.delta_p
    return {
        **_pair("mean_kld", kld.mean),
        **{f"{name}_kld": kld.percentiles[fraction] for fraction, name in _NAMES.items()},
        "max_kld": kld.maximum,
        "min_kld": kld.minimum,
        **_pair("same_top_fraction", result.same_top),
        **_pair("perplexity_ratio", result.perplexity_ratio),
        **_pair("log_perplexity_ratio", result.log_ratio),
        **_pair("perplexity_difference", result.perplexity_difference),
        **_pair("perplexity", result.perplexity),
        **_pair("base_perplexity", result.base_perplexity),
        "correlation": result.correlation,
        **_pair("mean_delta_p", delta_p.mean),
        **_pair("rms_delta_p", result.rms_delta_p),
        "delta_p": {name: delta_p.percentiles[fraction] for fraction, name in _NAMES.items()}
        | {"max": delta_p.maximum, "min": delta_p.minimum},
        "base_rounding": result.rounding,
        "tokens": result.tokens,
        "chunks": result.chunks,
        "n_ctx_seq": result.n_ctx_seq,
    }


def _pair(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.value, f"{name}_standard_error": estimate.error}


def _divergence_lines(result: Divergence) -> list[str]:
    """Return the statistics as llama-perplexity rounds them."""
    rows = [
        ("PPL", _plus_minus(result.perplexity)),
        ("PPL of the base", _plus_minus(result.base_perplexity)),
        ("PPL / PPL of the base", _plus_minus(result.perplexity_ratio)),
        ("ln of that", _plus_minus(result.log_ratio)),
        ("KLD mean", _plus_minus(result.divergence.mean)),
        *((f"KLD {name}", f"{value:.6f}") for name, value in _places(result.divergence)),
        ("Δp mean", _percent(result.delta_p.mean)),
        ("Δp RMS", _percent(result.rms_delta_p)),
        ("same top token", _percent(result.same_top)),
    ]
    width = max(len(name) for name, _ in rows)
    return [f"{name:<{width}}  {value}" for name, value in rows] + [
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


def _places(distribution: Distribution) -> list[tuple[str, float]]:
    names = {0.999: "99.9 %", 0.99: "99 %", 0.95: "95 %", 0.9: "90 %", 0.5: "median"}
    return [("maximum", distribution.maximum)] + [
        (name, distribution.percentiles[fraction]) for fraction, name in names.items()
    ]


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
