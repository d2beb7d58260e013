"""What `kld` prints and writes: every statistic of a divergence with its error, as llama-perplexity rounds them."""

import math
from typing import TYPE_CHECKING, Any

from toolkit.cli.output import echo

if TYPE_CHECKING:
    from toolkit.measures.divergence_statistics import Distribution, Divergence, Estimate
    from toolkit.measures.paired import Answer

_NAMES = {
    0.999: "p999", 0.99: "p99", 0.95: "p95", 0.9: "p90", 0.75: "p75", 0.5: "median", 0.25: "p25", 0.1: "p10", 0.05: "p05",
    0.01: "p01", 0.001: "p001",
}  # fmt: skip


def document(result: "Divergence") -> dict[str, Any]:
    """Return the JSON document of a comparison."""
    kld, delta_p = result.divergence, result.delta_p
    return {
        **_pair("mean", kld.mean),
        **{name: kld.percentiles[fraction] for fraction, name in _NAMES.items()},
        "max": kld.maximum,
        "min": kld.minimum,
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
        "n_ctx": result.n_ctx,
    }


def _pair(name: str, estimate: "Estimate") -> dict[str, float]:
    return {name: estimate.value, f"{name}_error": estimate.error}


def print_report(result: "Divergence") -> None:
    """Print the statistics as llama-perplexity rounds them."""
    rows = [
        ("PPL", _plus_minus(result.perplexity)),
        ("PPL of the base", _plus_minus(result.base_perplexity)),
        ("PPL / PPL of the base", _plus_minus(result.perplexity_ratio)),
        ("ln of that", _plus_minus(result.log_ratio)),
        ("KLD mean", _plus_minus(result.divergence.mean)),
        *((f"KLD {words}", f"{value:.6f}") for words, value in _places(result.divergence)),
        ("Δp mean", _percent(result.delta_p.mean)),
        ("Δp RMS", _percent(result.rms_delta_p)),
        ("same top token", _percent(result.same_top)),
    ]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        echo(f"{name:<{width}}  {value}")
    echo(
        f"{result.tokens:,} tokens in {result.chunks:,} windows of {result.n_ctx:,}; the base's log-probabilities are "
        f"stored in 16 bits, exact to {result.rounding:.1e}, so that a model's divergence from itself is not exactly 0"
    )


def print_rival(name: str, result: "Divergence", answer: "Answer") -> None:
    """Print how far another model is from the same base, and by how much the first one is farther."""
    echo(
        f"{name}: PPL {_plus_minus(result.perplexity)}, KLD mean {_plus_minus(result.divergence.mean)}, "
        f"same top token {_percent(result.same_top)}"
    )
    found = answer.found
    echo(f"{answer.question.quantity}: {found.mean:.6f} ({_bounds(answer)})")


def _bounds(answer: "Answer") -> str:
    """Return between what values the mean of the text lies, as far as the windows that were seen tell."""
    found = answer.found
    if answer.counted is None:
        return "over the whole text"
    if not (math.isfinite(found.low) and math.isfinite(found.high)):
        return "too few windows to bound it"
    cut = f", {answer.cut_windows} windows cut at that" if answer.cut_windows else ""
    return f"{found.low:.6f} to {found.high:.6f} over the whole text, windows counted within ±{answer.counted.high:.3g}{cut}"


def _places(distribution: "Distribution") -> list[tuple[str, float]]:
    names = {0.999: "99.9 %", 0.99: "99 %", 0.95: "95 %", 0.9: "90 %", 0.5: "median"}
    return [("maximum", distribution.maximum)] + [
        (words, distribution.percentiles[fraction]) for fraction, words in names.items()
    ]


def _plus_minus(estimate: "Estimate") -> str:
    return f"{estimate.value:.6f} ± {estimate.error:.6f}"


def _percent(estimate: "Estimate") -> str:
    return f"{100 * estimate.value:.3f} ± {100 * estimate.error:.3f} %"
