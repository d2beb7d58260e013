"""The page as a parser sees it: whole, escaped, accessible, and in need of nothing else."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise, product

import pytest
from made_up_comparison import base_row, comparison, divergence, ladder, quality, row

from toolkit.render.comparison.cells import rates_sentence
from toolkit.render.comparison.page import page_html, style_sheet

READ_ON = ("ground", "surface")
"""what text lies on"""
READ = ("ink", "quiet", "accent", "good", "noticeable", "bad")
"""colours of text"""
LIGHT, DARK = (
    dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", palette))
    for palette in re.findall(r":root \{(.*?)\}", style_sheet(), re.DOTALL)[:2]
)
VOID = {"meta", "link", "br", "hr", "img", "input"}
NASTY = '<script>alert("x")</script>&"\''


class Outline(HTMLParser):
    """Elements in order, and whether each is closed by its own end."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def page() -> str:
    return page_html(comparison(notes=("other processes use 40% of the processor",)))


def test_every_element_is_closed_and_there_is_one_heading_of_the_first_order(page: str) -> None:
    outline = Outline(page)
    assert page.startswith("<!doctype html>\n<html")
    assert outline.all("html") == [{"lang": "en"}]
    assert len(outline.all("h1")) == 1
    headings = [int(tag[1]) for tag, _ in outline.elements if re.fullmatch("h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in pairwise(headings))


def test_it_loads_nothing_and_may_not(page: str) -> None:
    outline = Outline(page)
    assert {"script", "link", "img", "iframe", "object", "embed", "base", "form"}.isdisjoint(
        tag for tag, _ in outline.elements
    )
    for tag, attributes in outline.elements:
        assert not any(name.startswith("on") or name in ("src", "style", "srcset") for name in attributes), tag
    assert "url(" not in page
    assert "@import" not in page
    [policy] = [meta["content"] for meta in outline.all("meta") if meta.get("http-equiv")]
    assert re.fullmatch("default-src 'none'; style-src 'sha256-[A-Za-z0-9+/=]{44}'", policy or "")


def test_the_advice_comes_first_with_its_numbers(page: str) -> None:
    words = " ".join(Outline(page).words)
    assert words.index("Take Q4_K_M: the smallest that fits and is good for general text.") < words.index("Q8_0")
    for part in ("4.58 GiB", "4.89 bits per weight", "Mean KLD 0.0313 (good up to 0.05)", "99.9 % KLD"):
        assert part in words


def test_it_says_what_it_rests_on(page: str) -> None:
    words = " ".join(Outline(page).words)
    for part in (
        "SHA-256 4a862675969b2eca",
        "10,200 tokens scored in 40 chunks of 512",
        "llama-cpp-python 0.3.36",
        "A processor, 8 cores, 32.0 GiB of RAM",
        "other processes use 40% of the processor",
        "gguf-toolkit compare model --profiles ...",
        "FIT-GGUF: its tiers Quality and Compact",
        "Unknown for chat, code, reasoning, long documents, another language",
        "--text code=FILE",
    ):
        assert part in words, part


def test_tables_have_captions_and_headers_and_every_cell_names_its_column(page: str) -> None:
    outline = Outline(page)
    tables = outline.all("table")
    assert len(outline.all("caption")) == len(tables) == 2
    assert all(header["scope"] in ("col", "row") for header in outline.all("th"))
    columns = {cell["data-label"] for cell in outline.all("td") if cell.get("data-label")}
    assert {
        "Size",
        "Mean KLD",
        "99.9 % KLD",
        "Same top",
        "Differs",
        "For general text",
        "Good",
        "Noticeable",
    } <= columns


def test_pictures_have_a_text_alternative_or_are_hidden_from_readers(page: str) -> None:
    outline = Outline(page)
    pictures = outline.all("svg")
    assert all(picture.get("role") == "img" or picture.get("aria-hidden") == "true" for picture in pictures)
    described = [picture for picture in pictures if picture.get("role") == "img"]
    assert [picture["class"] for picture in described] == ["wide", "narrow"]
    assert len(outline.all("desc")) == 2
    assert "Q4_K_M: 4,917,737,554 bytes, mean KLD 0.0313, no other file beats it" in page


def test_names_from_outside_are_text_and_never_markup() -> None:
    rows = [replace(one, name=NASTY if one.name == "Q5_K_M" else one.name) for one in ladder()]
    rows[3] = replace(rows[3], qualities=(replace(quality(divergence(0.0108)), text=NASTY),))
    page = page_html(comparison(rows, model=NASTY, command=NASTY, notes=(NASTY,)))
    outline = Outline(page)
    assert outline.all("script") == []
    assert page.count("<script") == 0
    assert outline.words.count(NASTY) >= 3


def test_a_failed_row_says_why_and_the_others_stay() -> None:
    failed = replace(row("IQ4_XS", 4.3, 4.4, 0.05), qualities=(), rates=None, error="chunk 3: logits are not finite")
    words = " ".join(Outline(page_html(comparison([*ladder(), failed]))).words)
    assert "failed: chunk 3: logits are not finite" in words
    assert "Take Q4_K_M" in words


@pytest.mark.parametrize(
    "rows",
    [
        [base_row()],
        [row("Q4_K_M", 4.6, 4.9, 0.03)],
        [replace(one, rates=None, memory=None) for one in ladder()],
        [replace(one, qualities=(quality(None),)) for one in ladder()[1:]],
        [base_row(), row("same", 4, 4.5, 0.02), row("same again", 4, 4.5, 0.02)],
        [base_row(), row("exact", 8, 8.5, 0.0), row("negative", 8, 8.5, -1e-5)],
    ],
    ids=["the base alone", "one file", "no rates and no memory", "no base", "equal rows", "divergences of nothing"],
)
def test_little_to_show_is_a_page_all_the_same(rows: list[object]) -> None:
    page = page_html(comparison(rows))  # type: ignore[arg-type]
    assert Outline(page).all("h1")
    assert "nan" not in page
    assert "inf" not in re.sub(r"\binference|info\w*", "", page)


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_text_can_be_read_and_bars_told_apart(palette: dict[str, str]) -> None:
    for name, ground in product(READ, READ_ON):
        assert contrast(palette[name], palette[ground]) >= 4.5, (name, ground)
    assert contrast(palette["bar-1"], palette["ground"]) >= 3
    assert contrast(palette["bar-1"], palette["bar-2"]) >= 1.5
    assert contrast(palette["bar-2"], palette["bar-3"]) >= 1.5


def test_both_palettes_have_the_same_names() -> None:
    assert LIGHT.keys() == DARK.keys() >= {*READ, *READ_ON, "bar-1", "bar-2", "bar-3", "track"}


def test_a_verdict_that_more_text_could_change_has_a_question_mark_that_is_explained() -> None:
    certain = page_html(comparison())
    assert "question mark" not in certain
    at_the_border = row("IQ4_XS", 4.3, 4.4, 0.05)
    threshold = next(one.good for one in comparison().use.thresholds if one.quantity.name == "mean_kld")
    open_ = replace(at_the_border, qualities=(quality(divergence(0.98 * threshold, error=0.1)),))
    words = Outline(page_html(comparison([*ladder(), open_]))).words
    assert any(word.strip().endswith("?") for word in words)
    assert "Where a verdict has a question mark, more text could change it." in " ".join(words)


@pytest.mark.parametrize(("repetitions", "said"), [(1, "once after a warm-up"), (3, "means of 3 repetitions after")])
def test_one_repetition_is_not_spoken_of_in_the_plural(repetitions: int, said: str) -> None:
    made = comparison()
    assert said in rates_sentence(replace(made.method, repetitions=repetitions))
