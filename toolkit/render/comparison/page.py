"""The report: one page that needs nothing else, for a screen of any width, in the dark, and on paper.

What is shown is decided here and in `columns`, `picture`, `bars` and `method`; how, in the folder `templates`.
"""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from toolkit.comparison.rows import Comparison
from toolkit.render.comparison import cells
from toolkit.render.comparison.bars import (
    Bar,
    KeyEntry,
    generation_rate,
    memory_bars,
    memory_key,
    prompt_rate,
    rate_bars,
)
from toolkit.render.comparison.columns import COLUMNS, Column
from toolkit.render.comparison.method import (
    Entry,
    Thresholds,
    Unknown,
    Verdict,
    known_uses,
    method_entries,
    thresholds,
    unknown_uses,
    verdicts,
)
from toolkit.render.comparison.picture import NARROW, WIDE, Picture, draw, points_of
from toolkit.render.comparison.view import ComparisonView, RowView
from toolkit.render.templates import rendered
from toolkit.units import format_size

PACKAGE = "toolkit.render.comparison"


@dataclass(frozen=True)
class Fact:
    """A number of the advised file."""

    title: str
    value: str
    unit: str


@dataclass(frozen=True)
class Heading:
    """The heading of a column."""

    title: str
    css_class: str


@dataclass(frozen=True)
class Cell:
    """A cell of the table, which names its column where the table becomes cards."""

    title: str
    heading_class: str
    css_class: str
    value: str
    below: str


@dataclass(frozen=True)
class File:
    """A row of the table; one that failed has an error and no cells."""

    name: str
    is_base: bool
    is_advised: bool
    error: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class Rates:
    """The bars of one kind of rate."""

    title: str
    bars: Sequence[Bar]


@dataclass(frozen=True)
class Page:
    """All that `page.html.j2` shows; what is empty is left out."""

    model: str
    count: str
    advice: str
    reason: str
    facts: Sequence[Fact]
    files_note: str
    headings: Sequence[Heading]
    files: Sequence[File]
    pictures: Sequence[Picture]
    picture_caption: str
    rates: Sequence[Rates]
    rates_note: str
    memory: Sequence[Bar]
    memory_key: Sequence[KeyEntry]
    memory_title: str
    memory_note: str
    verdicts: Sequence[Verdict]
    unknown: Unknown
    thresholds: Sequence[Thresholds]
    method: Sequence[Entry]


def page_html(comparison: Comparison) -> str:
    """Return the page; it has no scripts, and its policy allows none."""
    style = "\n" + style_sheet()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return rendered(PACKAGE, "page.html.j2", page=page_of(comparison), style=style, style_digest=digest)


def style_sheet() -> str:
    """Return the style sheet of the page."""
    return (files(PACKAGE) / "templates" / "page.css").read_text(encoding="utf-8")


def page_of(comparison: Comparison) -> Page:
    """Return what the page of a comparison shows."""
    view, method = ComparisonView(comparison), comparison.method
    columns = [column for column in COLUMNS if column.page and column.on_page(view)]
    return Page(
        model=comparison.model,
        count=_count(comparison),
        advice=view.advice.sentence,
        reason=view.advice.detail,
        facts=_facts(view),
        files_note=_files_note(view),
        headings=[Heading(_title(column, view), _alignment(column)) for column in columns],
        files=[_file(row, columns[1:]) for row in view.rows],
        pictures=_pictures(view),
        picture_caption=_picture_caption(comparison),
        rates=_rates(view),
        rates_note=f"{_capital(cells.rates_sentence(method))}; ± is their standard deviation.",
        memory=memory_bars(comparison),
        memory_key=memory_key(comparison),
        memory_title=f"Memory at a context of {method.n_ctx:,}",
        memory_note=_memory_note(comparison),
        verdicts=verdicts(comparison),
        unknown=unknown_uses(comparison),
        thresholds=[thresholds(use) for use in known_uses(comparison)],
        method=method_entries(comparison),
    )


def _count(comparison: Comparison) -> str:
    count = sum(not row.is_base for row in comparison.rows)
    return f"{count} {'file' if count == 1 else 'files'}"


def _facts(view: ComparisonView) -> list[Fact]:
    row = view.advice.row
    if row is None:
        return []
    divergence, _, error = cells.mean_divergence(row).partition(" ± ")
    facts = (
        Fact("File", cells.file_size(row), f"{cells.bits(row)} bits per weight"),
        Fact(cells.memory_title(view.comparison), cells.memory(row), cells.layers_of(row)),
        Fact("Mean KLD", divergence, f"± {error}" if error else ""),
        Fact("Generates", cells.generation_rate(row), "tokens/s"),
        Fact("Reads", cells.prompt_rate(row), "tokens/s"),
    )
    return [fact for fact in facts if fact.value != cells.NOTHING]


def _files_note(view: ComparisonView) -> str:
    sentences = [column.explanation(view) for column in COLUMNS if column.on_page(view)]
    if view.comparison.several_kv:
        sentences.append("The KV cache is f16 where no type is named.")
    return " ".join(sentence for sentence in sentences if sentence)


def _title(column: Column, view: ComparisonView) -> str:
    return column.page.format(**view.words)


def _alignment(column: Column) -> str:
    return "words" if column.left_aligned and column is not COLUMNS[0] else ""


def _file(view: RowView, columns: Sequence[Column]) -> File:
    row = view.row
    name = f"• {view.label}" if view.on_front else view.label
    shown = [] if row.error else [_cell(column, view) for column in columns]
    return File(name, row.is_base, view.is_advised, row.error, shown)


def _cell(column: Column, view: RowView) -> Cell:
    value, _, error = column.cell(view).partition(" ± ")
    # A space that does not break.
    below = f"±\N{NO-BREAK SPACE}{error}" if error else column.below(view)
    css_class = column.css_class(view)
    return Cell(
        _title(column, view.view), _alignment(column), css_class, value, "" if value == cells.NOTHING else below
    )


def _pictures(view: ComparisonView) -> list[Picture]:
    comparison = view.comparison
    points = points_of(comparison, view.advice.row)
    if len(points) < 2:
        return []
    cost = "Memory in all" if comparison.several_kv else "Size of the file"
    limits = [
        (f"{level} up to {value:g}", value)
        for threshold in comparison.use.thresholds
        if threshold.quantity.name == "mean_kld"
        for level, value in (("good", threshold.good), ("noticeable", threshold.noticeable))
    ]
    return [draw(points, limits, canvas, cost) for canvas in (WIDE, NARROW)]


def _picture_caption(comparison: Comparison) -> str:
    return (
        "Lower and further left is better, on a logarithmic scale. The line joins the files that no other beats in both; "
        f"dashed are the thresholds for {comparison.use.title}."
    )


def _rates(view: ComparisonView) -> list[Rates]:
    comparison, method = view.comparison, view.comparison.method
    if not view.has_rates:
        return []
    return [
        Rates(f"Generating {method.n_generate} tokens", rate_bars(comparison, generation_rate)),
        Rates(f"Reading a prompt of {method.n_prompt} tokens", rate_bars(comparison, prompt_rate)),
    ]


def _memory_note(comparison: Comparison) -> str:
    answered = ", ".join(dict.fromkeys(row.memory.answered_by for row in comparison.rows if row.memory is not None))
    note = f"Asked of llama.cpp before loading; answered by {answered}."
    margin_bytes = comparison.method.margin_bytes
    return f"{note} {format_size(margin_bytes)} of each budget stay free." if margin_bytes else note


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
