"""A comparison as text: the advice, the table, and what has to be said of it."""

from toolkit.comparison.ranking import pareto_rows, verdicts_of
from toolkit.comparison.rows import Comparison
from toolkit.measures.paired import ALPHA
from toolkit.measures.verdict_rules import Level
from toolkit.render.comparison import cells
from toolkit.render.comparison.columns import COLUMNS
from toolkit.render.comparison.view import ComparisonView, RowView
from toolkit.render.tables import table_lines


def comparison_lines(comparison: Comparison) -> list[str]:
    """Return the advice, a line for every row, and verdicts with their numbers."""
    view = ComparisonView(comparison)
    detail = [view.advice.detail] if view.advice.detail else []
    return [view.advice.sentence, *detail, "", *_row_lines(view), "", *_remarks(view)]


def _row_lines(view: ComparisonView) -> list[str]:
    columns = [column for column in COLUMNS if column.text]
    header = [column.text.format(**view.words) for column in columns]
    rows = [[_name(row), *(column.cell(row) for column in columns[1:])] for row in view.rows]
    return table_lines(header, rows, [number for number, column in enumerate(columns) if not column.left_aligned])


def _name(view: RowView) -> str:
    return f"{'>' if view.is_advised else ' '}{'*' if view.on_front else ' '} {view.label}"


def _remarks(view: ComparisonView) -> list[str]:
    comparison = view.comparison
    lines = ["* no other takes as little and diverges as little"] if pareto_rows(comparison) else []
    if view.has_differences:
        lines.append(
            f"differs: in mean KLD from the row above, chunk by chunk; all answers are right with {1 - ALPHA:.0%} confidence, "
            "without rare outliers"
        )
    if view.has_open_verdicts:
        lines.append("?: more text could change the verdict")
    lines += [f"{comparison.rows[number].name} is not ranked: {why}" for number, why in view.unranked.items()]
    lines += [f"{row.name} failed: {row.error}" for row in comparison.rows if row.error]
    lines += [f"text: {line}" for line in cells.text_lines(comparison)]
    lines.append(f"rates: {cells.rates_sentence(comparison.method)}")
    answered = dict.fromkeys(row.memory.answered_by for row in comparison.rows if row.memory is not None)
    lines += [f"memory: answered by {name}" for name in answered]
    return lines + _verdict_lines(comparison)


def _verdict_lines(comparison: Comparison) -> list[str]:
    """Return the verdicts for other uses that were measured, and how to get those that are unknown."""
    rows = [row for row in comparison.rows if not row.is_base and not row.error]
    judged = [(row, verdict) for row in rows for verdict in verdicts_of(comparison, row)]
    known = {verdict.use.name for _, verdict in judged if verdict.level is not Level.UNKNOWN}
    lines = [
        f"{comparison.label(row)}: {verdict.sentence}"
        for row, verdict in judged
        if verdict.use.name in known and verdict.use is not comparison.use
    ]
    unknown = [use for use in comparison.rules.use_cases if use.name not in known]
    if comparison.base is not None and unknown:
        titles = ", ".join(use.title for use in unknown)
        lines.append(f"unknown for {titles}: no text of that kind was measured (--text {unknown[0].text}=FILE)")
    return lines
