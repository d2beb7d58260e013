"""A perplexity as text and as JSON."""

from typing import Any

from toolkit.render.loading import devices_document, text_document
from toolkit.verbs.perplexity import PerplexityResult

KEYS = ("perplexity", "standard_error", "tokens")
"""null where logits are not finite"""


def perplexity_lines(result: PerplexityResult) -> list[str]:
    """Return the line that says how well a model predicts."""
    measured = result.measured
    return [
        f"perplexity {measured.perplexity:.4f} ± {measured.standard_error:.5f} on {measured.tokens:,} tokens "
        f"in {measured.chunks:,} chunks of {measured.n_ctx_seq:,} ({result.text.name})"
    ]


def perplexity_document(result: PerplexityResult) -> dict[str, Any]:
    """Return the JSON document of a perplexity."""
    measured = result.measured
    return {
        "model": str(result.gguf),
        "perplexity": measured.perplexity,
        "standard_error": measured.standard_error,
        "perplexity_standard_error": measured.standard_error,
        "tokens": measured.tokens,
        "chunks": measured.chunks,
        "n_ctx_seq": measured.n_ctx_seq,
        "mean_nll": measured.mean_nll,
        "chunk_nlls": list(measured.chunk_nlls),
        "stride": result.stride,
        **text_document(result.text),
        "devices": devices_document(result.devices),
        "seconds": result.seconds,
    }
