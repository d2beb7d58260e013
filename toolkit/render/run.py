"""An answer and its rates as text and as JSON."""

from typing import Any

from toolkit.measures.generation import GenerationStats
from toolkit.render.loading import devices_document
from toolkit.verbs.run import RunResult

_ENDS = {"model": "", "length": "; stopped by -n", "context": "; the context is full"}


def run_document(result: RunResult) -> dict[str, Any]:
    """Return the JSON document of an answer."""
    stats = result.stats
    return {
        "model": str(result.gguf),
        "answer": result.answer,
        "ended_by": stats.ended_by,
        "prompt_tokens": stats.prompt_tokens,
        "generated_tokens": stats.generated_tokens,
        "prompt_tokens_per_second": stats.prompt_tokens_per_second,
        "generation_tokens_per_second": stats.generation_tokens_per_second,
        "devices": devices_document(result.devices),
    }


def rates_line(stats: GenerationStats) -> str:
    """Return how many tokens were read and written, how fast, and why it ended."""
    rate = stats.generation_tokens_per_second
    return (
        f"prompt {stats.prompt_tokens:,} tokens at {stats.prompt_tokens_per_second:.1f} tokens/s, generated "
        f"{stats.generated_tokens:,}{f' at {rate:.1f} tokens/s' if rate is not None else ''}{_ENDS[stats.ended_by]}"
    )
