"""The page as people see it: in headless Chromium, at several widths, in the dark, and printed."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from browser import Browser, open_browser
from made_up_comparison import GIB, comparison, ladder, memory, row

from toolkit.render.comparison.page import page_html

# Overlaps of the texts in a picture, in pixels; a hidden picture has no boxes.
OVERLAPS = """
[...document.querySelectorAll('svg[role=img]')].flatMap(svg => {
  const boxes = [...svg.querySelectorAll('text')].map(one => [one.textContent, one.getBoundingClientRect()])
    .filter(([, box]) => box.width);
  return boxes.flatMap(([name, one], i) => boxes.slice(i + 1)
    .filter(([, two]) => Math.min(one.right, two.right) - Math.max(one.left, two.left) > 1
      && Math.min(one.bottom, two.bottom) - Math.max(one.top, two.top) > 3)
    .map(([other]) => `${name} / ${other}`));
})
"""
# Elements with text that reach beyond the window, or beyond the box that holds them.
CUT_OFF = """
[...document.querySelectorAll('main *')].filter(one => !one.closest('.aside, thead') && one.getClientRects().length)
  .filter(one => one.getBoundingClientRect().right > innerWidth + 1 || one.getBoundingClientRect().left < -1)
  .map(one => `${one.tagName} ${one.textContent.slice(0, 40)}`)
"""
WIDTHS = (320, 375, 768, 1000, 1280)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as started:
        yield started


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    close = row("Q4_K_S", 4.5, 4.8, 0.034, 0.91)
    small = replace(row("Q8_0", 7.95, 8.5, 0.0016), kv="q8_0", memory=memory(7 * GIB))
    long_name = row("a-model-with-a-very-long-name.IQ4_XS", 4.2, 4.5, 0.04)
    failed = replace(row("IQ1_S", 1.9, 1.8, 1), qualities=(), rates=None, error="chunk 3 of 40: logits are not finite")
    path = tmp_path_factory.mktemp("page") / "report.html"
    rows = [*ladder(), close, small, long_name, failed]
    path.write_text(page_html(comparison(rows)), encoding="utf-8")
    return path


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_window(browser: Browser, page: Path, width: int) -> None:
    browser.open(page, width)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate(CUT_OFF) == []


@pytest.mark.parametrize("width", WIDTHS)
def test_one_picture_is_shown_and_no_two_of_its_texts_overlap(browser: Browser, page: Path, width: int) -> None:
    browser.open(page, width)
    shown = "[...document.querySelectorAll('svg[role=img]')].filter(one => one.getClientRects().length).length"
    assert browser.evaluate(shown) == 1
    assert browser.evaluate(OVERLAPS) == []


def test_it_asks_for_nothing_and_complains_of_nothing(browser: Browser, page: Path) -> None:
    browser.open(page, 1280)
    methods = [event for event in browser.events if "method" in event]
    requests = [
        event["params"]["request"]["url"] for event in methods if event["method"] == "Network.requestWillBeSent"
    ]
    assert requests == [page.as_uri()]
    assert [event for event in methods if event["method"] in ("Log.entryAdded", "Runtime.exceptionThrown")] == []


def test_in_the_dark_the_ground_is_dark_and_the_words_are_light(browser: Browser, page: Path) -> None:
    colours = "(style => [style.backgroundColor, style.color])(getComputedStyle(document.body))"
    browser.open(page, 1280)
    light = browser.evaluate(colours)
    browser.open(page, 1280, dark=True)
    dark = browser.evaluate(colours)
    assert light == ["rgb(251, 251, 249)", "rgb(28, 33, 39)"]
    assert dark == ["rgb(17, 21, 26)", "rgb(231, 234, 238)"]


def test_it_prints_as_a_table_on_few_pages_that_hold_all_of_its_width(browser: Browser, page: Path) -> None:
    browser.open(page, 1280, dark=True)
    printed = browser.print_pdf()
    assert printed.startswith(b"%PDF")
    assert 2 <= printed.count(b"/Type /Page\n") + printed.count(b"/Type /Page ") + printed.count(b"/Type/Page/") <= 6
    # The width of a sheet of A4 between its margins.
    browser.call("Emulation.setDeviceMetricsOverride", width=680, height=900, deviceScaleFactor=1, mobile=False)
    browser.call("Emulation.setEmulatedMedia", media="print")
    assert browser.evaluate("document.documentElement.scrollWidth") <= 680
    assert browser.evaluate("getComputedStyle(document.querySelector('tbody tr')).display") == "table-row"
    assert browser.evaluate("getComputedStyle(document.body).color") == "rgb(28, 33, 39)"


def test_a_reader_hears_tables_headings_and_pictures(browser: Browser, page: Path) -> None:
    for width in (375, 1280):
        browser.open(page, width)
        nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
        heard = [node["role"]["value"] for node in nodes if not node.get("ignored")]
        assert heard.count("table") == 2
        assert heard.count("image") + heard.count("img") == 1
        assert heard.count("row") >= 12
        assert "rowheader" in heard
        assert heard.count("heading") >= 6
