"""The report: one page that needs nothing else, for a screen of any width, in the dark, and on paper."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from toolkit.comparison.losses import measurements_of
from toolkit.comparison.ranking import Advice, Difference, advise, differences, pareto_rows
from toolkit.comparison.rows import Comparison, Row
from toolkit.measures.verdict import judge_use
from toolkit.measures.verdict_rules import Level
from toolkit.report import words
from toolkit.report.bars import generation_rate, memory_bars, memory_key, prompt_rate, rate_bars
from toolkit.report.markup import Html, element
from toolkit.report.method import method_section, verdict_section
from toolkit.report.scatter import NARROW, WIDE, points_of, scatter
from toolkit.report.style import STYLE
from toolkit.units import format_size

LEVEL_CLASSES = {
    Level.GOOD: "good",
    Level.NOTICEABLE: "noticeable",
    Level.NOT_ADVISED: "bad",
    Level.UNKNOWN: "unknown",
}


@dataclass(frozen=True)
class _View:
    """A comparison with what is worked out from it once."""

    comparison: Comparison

    @cached_property
    def advice(self) -> Advice:
        return advise(self.comparison)

    @cached_property
    def front(self) -> frozenset[int]:
        return pareto_rows(self.comparison)

    @cached_property
    def differences(self) -> list[Difference | None]:
        return differences(self.comparison.rows)


def page_html(comparison: Comparison) -> str:
    """Return the page; it has no scripts, and its policy allows none."""
    view = _View(comparison)
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    head = element(
        "head",
        Html('<meta charset="utf-8">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html(
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-"
            + digest
            + "'\">"
        ),
        element("title", f"{comparison.model}: which file to take"),
        Html(f"<style>{STYLE}</style>"),
    )
    sections = [
        _head(view),
        _table_section(view),
        _picture_section(view),
        _rates_section(view),
        _memory_section(view),
        verdict_section(comparison),
        method_section(comparison),
    ]
    body = element("body", element("main", *(section for section in sections if section)))
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def _head(view: _View) -> Html:
    advice = view.advice
    parts = [
        element("h1", f"{view.comparison.model}, {_count(view.comparison)} compared"),
        element("p", advice.sentence, class_="lead"),
        element("p", advice.detail, class_="note") if advice.detail else Html(),
    ]
    if advice.row is not None:
        parts.append(_facts(view.comparison, advice.row))
    return element("header", *parts)


def _count(comparison: Comparison) -> str:
    count = sum(not row.is_base for row in comparison.rows)
    return f"{count} {'file' if count == 1 else 'files'}"


def _facts(comparison: Comparison, row: Row) -> Html:
    divergence, _, error = words.divergence_words(row).partition(" ± ")
    facts = [
        ("File", format_size(row.file_bytes), f"{row.bits_per_weight:.2f} bits per weight"),
        (words.memory_title(comparison), words.memory_words(row), _layers(row)),
        ("Mean KLD", divergence, f"± {error}" if error else ""),
        ("Generates", words.generation_words(row), "tokens/s"),
        ("Reads", words.prompt_words(row), "tokens/s"),
    ]
    shown = [
        element("div", element("dt", title), element("dd", value, " ", element("small", unit)))
        for title, value, unit in facts
        if value != words.NOTHING
    ]
    return element("dl", *shown, class_="facts")


def _table_section(view: _View) -> Html:
    comparison = view.comparison
    titles = [title for title, _ in _cells(view, 0, comparison.rows[0])] if comparison.rows else []
    head = [element("th", "File", scope="col")]
    head += [element("th", title, scope="col", class_=_alignment(title)) for title in titles]
    rows = [_table_row(view, number, row) for number, row in enumerate(comparison.rows)]
    table = element(
        "table",
        element("caption", "Every file with its size, memory, quality and speed", class_="aside"),
        element("thead", element("tr", *head, role="row"), role="rowgroup"),
        element("tbody", *rows, role="rowgroup"),
        class_="cards rows",
        role="table",
    )
    legend = "A dot before the name: no other file takes as little and diverges as little. "
    legend += "Divergence (KLD) is from the unquantized model, in nats a token; ± is the standard error. "
    legend += "Whether a file differs is said of its divergence and that of the row above."
    if any(words.verdict_words(comparison, row).endswith("?") for row in comparison.rows):
        legend += " Where a verdict has a question mark, more text could change it."
    if comparison.several_kv:
        legend += " The KV cache is f16 where no type is named."
    return element("section", element("h2", "The files"), element("p", legend, class_="note"), table)


def _table_row(view: _View, number: int, row: Row) -> Html:
    comparison = view.comparison
    dot = "• " if number in view.front else ""
    name = element("th", dot + comparison.label(row), *_under_the_name(row), scope="row", role="rowheader")
    if row.error:
        cells = [
            element(
                "td", f"failed: {row.error}", colspan=len(_cells(view, number, row)), class_="words wrap", role="cell"
            )
        ]
    else:
        cells = [
            element("td", value, data_label=title, class_=_alignment(title), role="cell")
            for title, value in _cells(view, number, row)
        ]
    advised = "advised" if row is view.advice.row else None
    return element("tr", name, *cells, class_=advised, role="row")


def _under_the_name(row: Row) -> list[Html]:
    return [element("small", "the base, unquantized")] if row.is_base else []


def _alignment(title: str) -> str | None:
    return "words" if title.startswith("For ") else None


def _cells(view: _View, number: int, row: Row) -> list[tuple[str, Html]]:
    """Return the cells of a row, each with the title of its column."""
    comparison = view.comparison
    cells = [
        ("Size", _two(format_size(row.file_bytes), f"{row.bits_per_weight:.2f} bits")),
        (words.memory_title(comparison), _two(words.memory_words(row), _layers(row))),
        ("Perplexity", _split(words.perplexity_words(row))),
        ("Mean KLD", _split(words.divergence_words(row))),
        ("99.9 % KLD", _two(words.tail_words(row))),
        ("Same top", _two(words.same_top_words(row))),
    ]
    if any(one.rates is not None for one in comparison.rows):
        cells.append(("Reads", _two(words.prompt_words(row), "tokens/s")))
        cells.append(("Generates", _two(words.generation_words(row), "tokens/s")))
    if any(view.differences):
        found = view.differences[number]
        cells.append(("Differs", _two(found.answer if found is not None else words.NOTHING)))
    cells.append((f"For {comparison.use.title}", _level(comparison, row)))
    return cells


def _two(value: str, below: str = "") -> Html:
    # One child for the flexible line that a cell becomes on a phone.
    under = element("small", f" {below}") if below and value != words.NOTHING else Html()
    return element("span", value, under)


def _split(value: str) -> Html:
    number, _, error = value.partition(" ± ")
    # A space that does not break.
    return _two(number, f"±\N{NO-BREAK SPACE}{error}" if error else "")


def _layers(row: Row) -> str:
    return "" if row.memory is None else words.layers_words(row) + (" layers" if row.memory.fits else "")


def _level(comparison: Comparison, row: Row) -> Html:
    if row.is_base:
        return element("span", "base", class_="unknown")
    verdict = judge_use(comparison.use, measurements_of(row))
    doubt = "" if verdict.is_certain or verdict.level is Level.UNKNOWN else "?"
    return element("span", f"{verdict.level}{doubt}", class_=f"level {LEVEL_CLASSES[verdict.level]}")


def _picture_section(view: _View) -> Html:
    comparison = view.comparison
    points = points_of(comparison, view.advice.row)
    if len(points) < 2:
        return Html()
    cost = "Memory in all" if comparison.several_kv else "Size of the file"
    limits = [
        (f"{level} up to {value:g}", value)
        for threshold in comparison.use.thresholds
        if threshold.quantity.name == "mean_kld"
        for level, value in (("good", threshold.good), ("noticeable", threshold.noticeable))
    ]
    pictures = [scatter(points, limits, canvas, cost) for canvas in (WIDE, NARROW)]
    caption = "Lower and further left is better, on a logarithmic scale. The line joins the files that no other beats in both; "
    caption += f"dashed are the thresholds for {comparison.use.title}."
    figure = element("figure", *pictures, element("figcaption", caption, class_="note"))
    return element("section", element("h2", "Size against divergence"), figure)


def _rates_section(view: _View) -> Html:
    comparison, method = view.comparison, view.comparison.method
    if not any(row.rates is not None for row in comparison.rows):
        return Html()
    halves: Sequence[tuple[str, Html]] = (
        (f"Generating {method.n_generate} tokens", rate_bars(comparison, generation_rate)),
        (f"Reading a prompt of {method.n_prompt} tokens", rate_bars(comparison, prompt_rate)),
    )
    columns = [element("div", element("h3", title), bars) for title, bars in halves]
    return element(
        "section",
        element("h2", "Tokens per second"),
        element("p", f"{_capital(words.rates_words(method))}; ± is their standard deviation.", class_="note"),
        element("div", *columns, class_="pair"),
    )


def _memory_section(view: _View) -> Html:
    comparison, method = view.comparison, view.comparison.method
    rows = [row for row in comparison.rows if row.memory is not None]
    if not rows:
        return Html()
    answered = ", ".join(dict.fromkeys(row.memory.answered_by for row in rows if row.memory is not None))
    about = f"Asked of llama.cpp before loading; answered by {answered}."
    if method.margin_bytes:
        about += f" {format_size(method.margin_bytes)} of each budget stay free."
    return element(
        "section",
        element("h2", f"Memory at a context of {method.n_ctx:,}"),
        element("p", about, class_="note"),
        memory_key(comparison),
        memory_bars(comparison),
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
