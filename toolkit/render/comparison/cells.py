"""Numbers of a comparison as a person reads them."""

import math

from toolkit.comparison.figures import measurements_of
from toolkit.comparison.rows import Comparison, DeviceMemory, Method, Row
from toolkit.llama.devices import SIMULATED
from toolkit.measures.divergence_statistics import Estimate
from toolkit.measures.verdict import judge_use
from toolkit.measures.verdict_rules import Level
from toolkit.units import format_size

NOTHING = "-"
LEVEL_CLASSES = {
    Level.GOOD: "good",
    Level.NOTICEABLE: "noticeable",
    Level.NOT_ADVISED: "bad",
    Level.UNKNOWN: "unknown",
}


def with_error(estimate: Estimate) -> str:
    """Return a value and its error, with the digits that the error leaves it: two of the error's own."""
    if not estimate.error > 0:
        return f"{estimate.value:.4g}"
    decimals = max(0, 1 - math.floor(math.log10(estimate.error)))
    return f"{estimate.value:.{decimals}f} ± {estimate.error:.{decimals}f}"


def file_size(row: Row) -> str:
    """Return the size of the file."""
    return format_size(row.file_bytes)


def bits(row: Row) -> str:
    """Return the bits of tensor data per weight."""
    return f"{row.bits_per_weight:.2f}"


def perplexity(row: Row) -> str:
    """Return `32.69 ± 0.83`."""
    return NOTHING if row.quality is None else with_error(row.quality.perplexity)


def mean_divergence(row: Row) -> str:
    """Return `0.0155 ± 0.0002`, or that the row is what the others are measured against."""
    if row.is_base:
        return "base"
    return NOTHING if row.divergence is None else with_error(row.divergence.mean)


def tail_divergence(row: Row) -> str:
    """Return the 99.9th percentile of the divergence."""
    if row.divergence is None:
        return NOTHING
    tail = row.divergence.p999.mean
    return f"{tail:.2f}" if tail >= 1 else f"{tail:.2g}"


def same_top(row: Row) -> str:
    """Return the share of same top tokens."""
    return NOTHING if row.divergence is None else f"{100 * row.divergence.same_top.value:.1f} %"


def token_rate(tokens_per_second: float | None) -> str:
    """Return tokens per second, with the digits that a measurement deserves."""
    if tokens_per_second is None:
        return NOTHING
    return f"{tokens_per_second:.1f}" if tokens_per_second < 100 else f"{tokens_per_second:,.0f}"


def prompt_rate(row: Row) -> str:
    """Return how fast a prompt is read."""
    return token_rate(row.rates.prompt_tokens_per_second if row.rates is not None else None)


def generation_rate(row: Row) -> str:
    """Return how fast tokens are generated."""
    return token_rate(row.rates.generation_tokens_per_second if row.rates is not None else None)


def memory(row: Row) -> str:
    """Return what lies on the GPU, or in memory where nothing does."""
    if row.memory is None:
        return NOTHING
    return format_size(row.memory.gpu_bytes or row.memory.total_bytes)


def layers(row: Row) -> str:
    """Return `9 of 9`, or by how much it does not fit."""
    if row.memory is None:
        return NOTHING
    if not row.memory.fits:
        return f"{format_size(row.memory.missing_bytes)} too much"
    return f"{row.memory.n_gpu_layers} of {row.memory.n_layers}"


def layers_of(row: Row) -> str:
    """Return the same where it stands below the memory: `9 of 9 layers`."""
    return "" if row.memory is None else layers(row) + (" layers" if row.memory.fits else "")


def device_name(row: Row, device: DeviceMemory) -> str:
    """Return what a device is called; a simulated device goes by what it stands for."""
    if device.on_host:
        return "RAM"
    simulated = row.memory is not None and row.memory.answered_by.startswith(SIMULATED)
    others = [other for other in (row.memory.devices if row.memory is not None else ()) if not other.on_host]
    number = device.name.removeprefix("RPC") if len(others) > 1 else ""
    return f"GPU{number}" if simulated else device.name


def verdict_text(comparison: Comparison, row: Row) -> str:
    """Return the verdict for the use that decides, with a question mark where the error leaves it open."""
    if row.error:
        return "failed"
    if row.is_base:
        return "base"
    verdict = judge_use(comparison.use, measurements_of(row))
    open_ = "" if verdict.is_certain or verdict.level is Level.UNKNOWN else "?"
    return f"{verdict.level}{open_}"


def verdict_class(comparison: Comparison, row: Row) -> str:
    """Return how the page shows a verdict."""
    if row.is_base:
        return "unknown"
    return f"level {LEVEL_CLASSES[judge_use(comparison.use, measurements_of(row)).level]}"


def memory_title(comparison: Comparison) -> str:
    """Return the heading of the column of memory."""
    on_gpu = any(row.memory is not None and row.memory.gpu_bytes for row in comparison.rows)
    return f"{'VRAM' if on_gpu else 'RAM'} at {context(comparison.method)}"


def context(method: Method) -> str:
    """Return `16k` or `4,000`."""
    return f"{method.n_ctx // 1024}k" if method.n_ctx % 1024 == 0 else f"{method.n_ctx:,}"


def text_lines(comparison: Comparison) -> list[str]:
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


def rates_sentence(method: Method) -> str:
    """Return how rates were measured."""
    if not method.repetitions:
        return "not measured"
    often = "once" if method.repetitions == 1 else f"means of {method.repetitions} repetitions"
    threads = "thread" if method.threads == 1 else "threads"
    return (
        f"prompts of {method.n_prompt} tokens and {method.n_generate} generated ones, {often} after a warm-up, "
        f"{method.threads} {threads}, on {method.measured_on}"
    )
