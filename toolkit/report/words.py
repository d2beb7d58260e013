"""Numbers of a comparison as a person reads them."""

import math

from toolkit.comparison.losses import measurements_of
from toolkit.comparison.rows import Comparison, DeviceMemory, Method, Row
from toolkit.llama.devices import SIMULATED
from toolkit.measures.divergence_statistics import Estimate
from toolkit.measures.verdict import judge_use
from toolkit.measures.verdict_rules import Level
from toolkit.units import format_size

NOTHING = "-"


def estimate_words(estimate: Estimate) -> str:
    """Return a value and its error, with the digits that the error leaves it: two of the error's own."""
    if not estimate.error > 0:
        return f"{estimate.value:.4g}"
    decimals = max(0, 1 - math.floor(math.log10(estimate.error)))
    return f"{estimate.value:.{decimals}f} ± {estimate.error:.{decimals}f}"


def perplexity_words(row: Row) -> str:
    """Return `32.69 ± 0.83`."""
    return NOTHING if row.quality is None else estimate_words(row.quality.perplexity)


def divergence_words(row: Row) -> str:
    """Return `0.0155 ± 0.0002`, or that the row is what the others are measured against."""
    if row.is_base:
        return "base"
    return NOTHING if row.loss is None else estimate_words(row.loss.mean)


def tail_words(row: Row) -> str:
    """Return the 99.9th percentile of the divergence."""
    if row.loss is None:
        return NOTHING
    tail = row.loss.p999.mean
    return f"{tail:.2f}" if tail >= 1 else f"{tail:.2g}"


def same_top_words(row: Row) -> str:
    """Return the share of same top tokens."""
    return NOTHING if row.loss is None else f"{100 * row.loss.same_top.value:.1f} %"


def rate_words(rate: float | None) -> str:
    """Return tokens per second, with the digits that a measurement deserves."""
    if rate is None:
        return NOTHING
    return f"{rate:.1f}" if rate < 100 else f"{rate:,.0f}"


def prompt_words(row: Row) -> str:
    """Return how fast a prompt is read."""
    return rate_words(row.rates.prompt_tokens_per_second if row.rates is not None else None)


def generation_words(row: Row) -> str:
    """Return how fast tokens are generated."""
    return rate_words(row.rates.generation_tokens_per_second if row.rates is not None else None)


def memory_words(row: Row) -> str:
    """Return what lies on the GPU, or in memory where nothing does."""
    if row.memory is None:
        return NOTHING
    return format_size(row.memory.gpu_bytes or row.memory.total_bytes)


def layers_words(row: Row) -> str:
    """Return `9 of 9`, or by how much it does not fit."""
    if row.memory is None:
        return NOTHING
    if not row.memory.fits:
        return f"{format_size(row.memory.missing_bytes)} too much"
    return f"{row.memory.n_gpu_layers} of {row.memory.n_layers}"


def device_words(row: Row, device: DeviceMemory) -> str:
    """Return what a device is called; a simulated device goes by what it stands for."""
    if device.on_host:
        return "RAM"
    simulated = row.memory is not None and row.memory.answered_by.startswith(SIMULATED)
    others = [one for one in (row.memory.devices if row.memory is not None else ()) if not one.on_host]
    number = device.name.removeprefix("RPC") if len(others) > 1 else ""
    return f"GPU{number}" if simulated else device.name


def verdict_words(comparison: Comparison, row: Row) -> str:
    """Return the verdict for the use that decides, with a question mark where the error leaves it open."""
    if row.error:
        return "failed"
    if row.is_base:
        return "base"
    verdict = judge_use(comparison.use, measurements_of(row))
    open_ = "" if verdict.is_certain or verdict.level is Level.UNKNOWN else "?"
    return f"{verdict.level}{open_}"


def memory_title(comparison: Comparison) -> str:
    """Return the heading of the column of memory."""
    on_gpu = any(row.memory is not None and row.memory.gpu_bytes for row in comparison.rows)
    return f"{'VRAM' if on_gpu else 'RAM'} at {context_words(comparison.method)}"


def context_words(method: Method) -> str:
    """Return `16k` or `4,000`."""
    return f"{method.n_ctx // 1024}k" if method.n_ctx % 1024 == 0 else f"{method.n_ctx:,}"


def text_words(comparison: Comparison) -> list[str]:
    """Return what was measured on, one line a text."""
    lines = []
    row = next((row for row in comparison.rows if row.qualities), None)
    for quality in row.qualities if row is not None else ():
        key = quality.key
        lines.append(
            f"{quality.text}, as {quality.kind}: {quality.tokens:,} tokens scored in {key.chunks:,} chunks of {key.n_ctx_seq:,}, "
            f"SHA-256 {key.text_sha256[:16]}"
        )
    return lines


def rates_words(method: Method) -> str:
    """Return how rates were measured."""
    if not method.repetitions:
        return "not measured"
    return (
        f"prompts of {method.n_prompt} tokens and {method.n_generate} generated ones, "
        f"{'once' if method.repetitions == 1 else f'means of {method.repetitions} repetitions'} after a warm-up, {method.threads} {'thread' if method.threads == 1 else 'threads'}, on {method.measured_on}"
    )
