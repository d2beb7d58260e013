"""Bars that are as wide as the page lets them be: rates of generation and reading, and memory by device."""

from collections.abc import Callable, Sequence

from toolkit.comparison.rows import Comparison, DeviceMemory, Row
from toolkit.report.markup import Html, element, joined
from toolkit.report.words import device_words, rate_words
from toolkit.units import format_size

_FAR = 3
Rate = tuple[float, float]
"""tokens per second, and their standard deviation"""
_PARTS = (
    ("b1", "weights", "weights_bytes"),
    ("b2", "KV cache and states", "kv_cache_bytes"),
    ("b3", "compute", "compute_bytes"),
)


def rate_bars(comparison: Comparison, rate_of: Callable[[Row], Rate | None]) -> Html:
    """Return a bar for every row with a rate; `rate_of` gives it with its standard deviation."""
    rated = [(row, found) for row in comparison.rows if (found := rate_of(row)) is not None]
    most = max((rate for _, (rate, _) in rated), default=1.0)
    items = []
    for row, (rate, deviation) in rated:
        value = element("span", rate_words(rate), element("small", f" ± {rate_words(deviation)}"), class_="value")
        bar = _bar([("b1", rate / most)])
        items.append(element("li", element("span", comparison.label(row), class_="name"), bar, value))
    return element("ul", *items, class_="bars")


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


def memory_bars(comparison: Comparison) -> Html:
    """Return a bar for every device of every row, all on one scale, with its budget as a mark."""
    items, scale = [], _scale(comparison)
    for row in comparison.rows:
        for number, device in enumerate(_devices(row)):
            name = comparison.label(row) if not number else ""
            items.append(_device_bar((name, device_words(row, device)), device, scale))
    return element("ul", *items, class_="bars memory")


def memory_key(comparison: Comparison) -> Html:
    """Return what the colours of the memory bars mean."""
    entries = [(class_, words) for class_, words, _ in _PARTS]
    if any(device.total_bytes > device.budget_bytes for row in comparison.rows for device in _devices(row)):
        entries.append(("over", "beyond the budget"))
    swatches = [joined([element("svg", _block(class_, 0, 1), aria_hidden="true"), words]) for class_, words in entries]
    return element("p", *(element("span", swatch) for swatch in swatches), class_="key")


def _devices(row: Row) -> tuple[DeviceMemory, ...]:
    return row.memory.devices if row.memory is not None else ()


def _scale(comparison: Comparison) -> int:
    """Return the bytes of a full bar: the most that a device holds, or may hold unless that is far more."""
    devices = [device for row in comparison.rows for device in _devices(row)]
    most = max((device.total_bytes for device in devices), default=1)
    budgets = [device.budget_bytes for device in devices]
    return max([most, *(budget for budget in budgets if budget <= _FAR * most)])


def _device_bar(names: tuple[str, str], device: DeviceMemory, scale: int) -> Html:
    parts = [(class_, getattr(device, field) / scale) for class_, _, field in _PARTS]
    over = max(0, device.total_bytes - device.budget_bytes) / scale
    mark = device.budget_bytes / scale if device.budget_bytes < scale else None
    value = element(
        "span",
        format_size(device.total_bytes),
        element("small", f" of {format_size(device.budget_bytes)}"),
        class_="value",
    )
    cells = (element("span", names[0], class_="name"), element("span", names[1], class_="device"))
    return element("li", *cells, _bar(parts, over, mark), value, class_=None if names[0] else "again")


def _bar(parts: Sequence[tuple[str, float]], over: float = 0.0, mark: float | None = None) -> Html:
    """Return a bar of parts, given as shares of its width; what is `over` ends it in another colour."""
    blocks, left = [element("rect", width="100%", height="100%", class_="track", rx=2)], 0.0
    for class_, share in parts:
        blocks.append(_block(class_, left, share))
        left += share
    if over:
        blocks.append(_block("over", left - over, over))
    if mark is not None:
        blocks.append(element("rect", x=f"{100 * mark:.2f}%", width=2, height="100%", class_="limit-mark"))
    return element("svg", *blocks, aria_hidden="true")


def _block(class_: str, left: float, share: float) -> Html:
    return element("rect", x=f"{100 * left:.2f}%", width=f"{100 * share:.2f}%", height="100%", class_=class_)
