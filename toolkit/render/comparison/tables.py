"""A comparison as comma-separated values, and as a Markdown table for a model card."""

import csv
import io

from toolkit.comparison.ranking import pareto_rows
from toolkit.comparison.rows import Comparison
from toolkit.render.comparison import cells
from toolkit.render.comparison.columns import COLUMNS
from toolkit.render.comparison.document import comparison_document
from toolkit.render.comparison.view import ComparisonView, RowView
from toolkit.visible_text import visible


def csv_text(comparison: Comparison) -> str:
    """Return one line a row, with a verdict for every use; numbers are not rounded."""
    uses = [use.name for use in comparison.rules.use_cases]
    keys = [key for column in COLUMNS for key in column.csv_keys]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*keys, *(f"verdict_{use}" for use in uses)])
    for row in comparison_document(comparison)["rows"]:
        levels = {verdict["use"]: verdict["level"] for verdict in row["verdicts"]}
        writer.writerow([*(_csv_cell(row.get(key)) for key in keys), *(levels.get(use, "") for use in uses)])
    return out.getvalue()


def _csv_cell(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return value
    # A spreadsheet takes what starts with one of these for a formula, blanks before it or not.
    return f"'{visible(value)}" if value.lstrip().startswith(("=", "+", "-", "@")) else visible(value)


def markdown_text(comparison: Comparison) -> str:
    """Return a section for a model card: the advice, the table, and how it was measured."""
    view = ComparisonView(comparison)
    columns = [column for column in COLUMNS if column.markdown]
    headings = [column.markdown.format(**view.words) for column in columns]
    return "\n".join(
        [
            f"**{_escaped(view.advice.sentence)}** {_escaped(view.advice.detail)}".rstrip(),
            "",
            _line(headings),
            f"|{'|'.join('---' if column.left_aligned else '---:' for column in columns)}|",
            *(_line([_name(row), *(_escaped(column.cell(row)) for column in columns[1:])]) for row in view.rows),
            "",
            *(f"{_escaped(line)}  " for line in _remarks(view)),
        ]
    ).rstrip() + "\n"  # fmt: skip


def _line(values: list[str]) -> str:
    return f"| {' | '.join(values)} |"


def _name(view: RowView) -> str:
    name, mark = _escaped(view.label), " \\*" if view.on_front else ""
    return f"**{name}**{mark}" if view.is_advised else f"{name}{mark}"


def _remarks(view: ComparisonView) -> list[str]:
    """Return what has to be said below the table."""
    comparison = view.comparison
    lines = ["* no other file takes as little and diverges as little."] if pareto_rows(comparison) else []
    lines += [f"Text: {line}." for line in cells.text_lines(comparison)]
    lines.append(f"Rates: {cells.rates_sentence(comparison.method)}.")
    lines += [f"{comparison.rows[number].name} is not ranked: {why}." for number, why in view.unranked.items()]
    lines += [f"{row.name} failed: {row.error}" for row in comparison.rows if row.error]
    versions = ", ".join(f"{name} {version}" for name, version in comparison.machine.versions.items() if version)
    return [*lines, f"Measured with {versions}."]


def _escaped(text: str) -> str:
    for mark in ("\\", "|", "*", "_", "`", "<", "[", "&", "~", "$"):
        text = text.replace(mark, f"\\{mark}")
    return visible(" ".join(text.split()))
