"""Bars are as wide as what they stand for."""

import re

from made_up_comparison import GIB, base_row, comparison, memory, row

from toolkit.render.comparison import bars
from toolkit.render.comparison.bars import generation_rate, prompt_rate
from toolkit.render.comparison.page import PACKAGE, page_of
from toolkit.render.templates import rendered
from toolkit.units import format_size

RECT = re.compile(r'<rect x="([\d.]+)%"(?: width="([\d.]+)%")?[^>]*class="([\w-]+)"')


def memory_bars(made):
    return rendered(PACKAGE, "memory.html.j2", page=page_of(made)).partition("</p>")[2]


def memory_key(made):
    return rendered(PACKAGE, "memory.html.j2", page=page_of(made)).partition("</p>")[0]


def rate_bars(made, rate_of):
    return "".join(rendered(PACKAGE, "bar.html.j2", bar=bar) for bar in bars.rate_bars(made, rate_of))


def rects(html):
    """Return (class, where it begins, how wide it is) of every block, in percent."""
    return [(class_, float(x), float(width or 0)) for x, width, class_ in RECT.findall(html)]


def test_weights_caches_and_compute_buffers_lie_one_after_the_other():
    made = comparison([row("Q4_K_M", 4, 4.9, 0.03)])
    first, *_ = re.findall(r"(?s)<li.*?</li>", memory_bars(made))
    # 4 GiB, 0.5 GiB and 0.25 GiB of a budget of 8 GiB.
    assert rects(first) == [("b1", 0, 50), ("b2", 50, 6.25), ("b3", 56.25, 3.12)]
    key = re.findall(r'class="(b\d|over)".*?</svg>([^<]*)', memory_key(made))
    assert key == [("b1", "weights"), ("b2", "KV cache and states"), ("b3", "compute")]


def test_what_is_beyond_the_budget_ends_the_bar_and_the_budget_is_marked():
    made = comparison([base_row()])
    first, *_ = re.findall(r"(?s)<li.*?</li>", memory_bars(made))
    # All bars are drawn to the scale of the largest budget, the RAM's 32 GiB.
    total = 100 * (14.97 + 0.75) / 32
    *_, (_, left, width), (_, mark, _) = rects(first)
    assert (left, mark) == (25, 25)
    assert abs(left + width - total) < 0.02
    assert format_size(memory(round(14.97 * GIB)).gpu_bytes) in first
    assert "beyond the budget" in memory_key(made)


def test_bars_of_rates_are_shares_of_the_fastest():
    made = comparison([row("Q8_0", 8, 8.5, 0.001), row("Q4_K_M", 4, 4.9, 0.03)])
    for rate_of, fastest in ((prompt_rate, "500"), (generation_rate, "50.0")):
        html = rate_bars(made, rate_of)
        assert rects(html) == [("b1", 0, 50), ("b1", 0, 100)]
        assert f">{fastest}<" in html
