"""Bars that are as wide as the page lets them be: rates of generation and reading, and memory by device."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from toolkit.comparison.rows import Comparison, DeviceMemory, Row
from toolkit.render.comparison import cells
from toolkit.units import format_size

_FAR = 3
Rate = tuple[float, float]
"""tokens per second, and their standard deviation"""
_PARTS = (
    ("b1", "weights", "weights_bytes"),
    ("b2", "KV cache and states", "kv_cache_bytes"),
    ("b3", "compute", "compute_bytes"),
)


@dataclass(frozen=True)
class Block:
    """A part of a bar, in percent of its width."""

    css_class: str
    left: float
    width: float


@dataclass(frozen=True)
class Bar:
    """A bar with what stands beside it."""

    name: str
    value: str
    detail: str
    blocks: Sequence[Block]
    device: str = ""
    limits: Sequence[float] = ()
    """marks, in percent of the width"""

    @property
    def continues(self) -> bool:
        """Tell whether it is another device of the row above."""
        return not self.name


@dataclass(frozen=True)
class KeyEntry:
    """What a colour means."""

    css_class: str
    text: str


def rate_bars(comparison: Comparison, rate_of: Callable[[Row], Rate | None]) -> list[Bar]:
    """Return a bar for every row with a rate; `rate_of` gives it with its standard deviation."""
    rated = [(row, rate) for row in comparison.rows if (rate := rate_of(row)) is not None]
    most = max((rate for _, (rate, _) in rated), default=1.0)
    return [
        Bar(
            comparison.label(row),
            cells.token_rate(rate),
            f"± {cells.token_rate(deviation)}",
            [Block("b1", 0.0, 100 * rate / most)],
        )
        for row, (rate, deviation) in rated
    ]


def prompt_rate(row: Row) -> Rate | None:
    """Return the rate of reading a prompt."""
    rates = row.rates
    return None if rates is None else _rate(rates.prompt_tokens_per_second, rates.prompt_tokens_per_second_stddev)


def generation_rate(row: Row) -> Rate | None:
    """Return the rate of generating."""
    rates = row.rates
    if rates is None:
        return None
    return _rate(rates.generation_tokens_per_second, rates.generation_tokens_per_second_stddev)


def _rate(rate: float | None, deviation: float | None) -> Rate | None:
    return None if rate is None or deviation is None else (rate, deviation)


def memory_bars(comparison: Comparison) -> list[Bar]:
    """Return a bar for every device of every row, all on one scale, with its budget as a mark."""
    scale = _scale(comparison)
    return [
        _device_bar(comparison.label(row) if not number else "", cells.device_name(row, device), device, scale)
        for row in comparison.rows
        for number, device in enumerate(_devices(row))
    ]


def memory_key(comparison: Comparison) -> list[KeyEntry]:
    """Return what the colours of the memory bars mean."""
    entries = [KeyEntry(css_class, text) for css_class, text, _ in _PARTS]
    if any(device.total_bytes > device.budget_bytes for row in comparison.rows for device in _devices(row)):
        entries.append(KeyEntry("over", "beyond the budget"))
    return entries


def _devices(row: Row) -> tuple[DeviceMemory, ...]:
    return row.memory.devices if row.memory is not None else ()


def _scale(comparison: Comparison) -> int:
    """Return the bytes of a full bar: the most that a device holds, or may hold unless that is far more."""
    devices = [device for row in comparison.rows for device in _devices(row)]
    most = max((device.total_bytes for device in devices), default=1)
    budgets = [device.budget_bytes for device in devices]
    return max([most, *(budget for budget in budgets if budget <= _FAR * most)])


def _device_bar(name: str, device_name: str, device: DeviceMemory, scale: int) -> Bar:
    blocks, left = [], 0.0
    for css_class, _, field in _PARTS:
        width = 100 * getattr(device, field) / scale
        blocks.append(Block(css_class, left, width))
        left += width
    over = 100 * max(0, device.total_bytes - device.budget_bytes) / scale
    if over:
        # It ends the bar.
        blocks.append(Block("over", left - over, over))
    limits = [100 * device.budget_bytes / scale] if device.budget_bytes < scale else []
    of_budget = f"of {format_size(device.budget_bytes)}"
    return Bar(name, format_size(device.total_bytes), of_budget, blocks, device_name, limits)
