"""A comparison as text: the advice, the table, and what has to be said of it."""

from toolkit.comparison.ranking import advise, differences, pareto_rows, verdicts_of, why_not_ranked
from toolkit.comparison.rows import Comparison
from toolkit.measures.paired import ALPHA
from toolkit.measures.verdict_rules import Level
from toolkit.render.tables import table_lines
from toolkit.report import words
from toolkit.units import format_size


def comparison_lines(comparison: Comparison) -> list[str]:
    """Return the advice, a line for every row, and verdicts with their numbers."""
    advice = advise(comparison)
    detail = [advice.detail] if advice.detail else []
    return [advice.sentence, *detail, "", *_row_lines(comparison), "", *_remarks(comparison)]


def _row_lines(comparison: Comparison) -> list[str]:
    advised, front, changes = advise(comparison).row, pareto_rows(comparison), differences(comparison.rows)
    cells = [
        (
            f"{'>' if row is advised else ' '}{'*' if number in front else ' '} {comparison.label(row)}",
            format_size(row.file_bytes),
            f"{row.bits_per_weight:.2f}",
            words.memory_words(row),
            words.layers_words(row),
            words.perplexity_words(row),
            words.divergence_words(row),
            words.tail_words(row),
            words.same_top_words(row),
            words.prompt_words(row),
            words.generation_words(row),
            change.answer if change is not None else words.NOTHING,
            words.verdict_words(comparison, row),
        )
        for number, (row, change) in enumerate(zip(comparison.rows, changes, strict=True))
    ]
    method = comparison.method
    header = ("   file", "size", "bits", words.memory_title(comparison), "layers", "PPL", "mean KLD", "99.9 %", "same top",
              f"pp{method.n_prompt}", f"tg{method.n_generate}", "differs", comparison.use.title)  # fmt: skip
    return table_lines(header, cells, right=range(1, 12))


def _remarks(comparison: Comparison) -> list[str]:
    lines = ["* no other takes as little and diverges as little"] if pareto_rows(comparison) else []
    if any(differences(comparison.rows)):
        lines.append(
            f"differs: in mean KLD from the row above, chunk by chunk; all answers are right with {1 - ALPHA:.0%} confidence, "
            "without rare outliers"
        )
    if any(words.verdict_words(comparison, row).endswith("?") for row in comparison.rows):
        lines.append("?: more text could change the verdict")
    lines += [
        f"{comparison.rows[number].name} is not ranked: {why}" for number, why in why_not_ranked(comparison).items()
    ]
    lines += [f"{row.name} failed: {row.error}" for row in comparison.rows if row.error]
    lines += [f"text: {line}" for line in words.text_words(comparison)]
    lines.append(f"rates: {words.rates_words(comparison.method)}")
    answered = dict.fromkeys(row.memory.answered_by for row in comparison.rows if row.memory is not None)
    lines += [f"memory: answered by {name}" for name in answered]
    return lines + _verdict_lines(comparison)


def _verdict_lines(comparison: Comparison) -> list[str]:
    """Return the verdicts for other uses that were measured, and how to get those that are unknown."""
    rows = [row for row in comparison.rows if not row.is_base and not row.error]
    found = [(row, verdict) for row in rows for verdict in verdicts_of(comparison, row)]
    known = {verdict.use.name for _, verdict in found if verdict.level is not Level.UNKNOWN}
    lines = [
        f"{comparison.label(row)}: {verdict.sentence}"
        for row, verdict in found
        if verdict.use.name in known and verdict.use is not comparison.use
    ]
    unknown = [use for use in comparison.rules.use_cases if use.name not in known]
    if comparison.base is not None and unknown:
        titles = ", ".join(use.title for use in unknown)
        lines.append(f"unknown for {titles}: no text of that kind was measured (--text {unknown[0].text}=FILE)")
    return lines
