"""A comparison as comma-separated values, and as a Markdown table for a model card."""

import csv
import io
from collections.abc import Callable

from toolkit.comparison.ranking import advise, pareto_rows, why_not_ranked
from toolkit.comparison.rows import Comparison, Row
from toolkit.report import words
from toolkit.report.document import comparison_document
from toolkit.units import format_size
from toolkit.visible_text import visible

_CSV_COLUMNS = (
    "name",
    "kv_type_k",
    "kv_type_v",
    "is_base",
    "file_bytes",
    "bits_per_weight",
    "gpu_bytes",
    "n_gpu_layers",
    "fits",
    "perplexity",
    "perplexity_standard_error",
    "mean_kld",
    "mean_kld_standard_error",
    "median_kld",
    "p99_kld",
    "p999_kld",
    "max_kld",
    "same_top_fraction",
    "perplexity_ratio",
    "prompt_tokens_per_second",
    "generation_tokens_per_second",
    "pareto",
    "advised",
    "error",
)


def csv_text(comparison: Comparison) -> str:
    """Return one line a row, with a verdict for every use; numbers are not rounded."""
    uses = [use.name for use in comparison.rules.use_cases]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*_CSV_COLUMNS, *(f"verdict_{use}" for use in uses)])
    for row in comparison_document(comparison)["rows"]:
        levels = {verdict["use"]: verdict["level"] for verdict in row["verdicts"]}
        writer.writerow([*(_cell(row.get(name)) for name in _CSV_COLUMNS), *(levels.get(use, "") for use in uses)])
    return out.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return value
    # A spreadsheet takes what starts with one of these for a formula, blanks before it or not.
    return f"'{visible(value)}" if value.lstrip().startswith(("=", "+", "-", "@")) else visible(value)


def markdown_text(comparison: Comparison) -> str:
    """Return a section for a model card: the advice, the table, and how it was measured."""
    advice, on_front = advise(comparison), pareto_rows(comparison)
    columns = _columns(comparison)
    lines = [f"**{_escaped(advice.sentence)}** {_escaped(advice.detail)}".rstrip(), ""]
    lines.append(f"| {' | '.join(title for title, _, _ in columns)} |")
    lines.append(f"|{'|'.join('---:' if right else '---' for _, _, right in columns)}|")
    for number, row in enumerate(comparison.rows):
        mark = " \\*" if number in on_front else ""
        name = _escaped(comparison.label(row))
        cells = [f"**{name}**{mark}" if row is advice.row else f"{name}{mark}"]
        cells += [_escaped(value(row)) for _, value, _ in columns[1:]]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *(f"{_escaped(line)}  " for line in _remarks(comparison))]
    return "\n".join(lines).rstrip() + "\n"


def _columns(comparison: Comparison) -> list[tuple[str, Callable[[Row], str], bool]]:
    """Return the columns: title, value, whether it is aligned to the right."""
    return [
        ("File", comparison.label, False),
        ("Size", lambda row: format_size(row.file_bytes), True),
        ("Bits", lambda row: f"{row.bits_per_weight:.2f}", True),
        (words.memory_title(comparison), words.memory_words, True),
        ("PPL", words.perplexity_words, True),
        ("Mean KLD", words.divergence_words, True),
        ("99.9 % KLD", words.tail_words, True),
        ("Same top", words.same_top_words, True),
        (f"pp{comparison.method.n_prompt}", words.prompt_words, True),
        (f"tg{comparison.method.n_generate}", words.generation_words, True),
        (f"For {comparison.use.title}", lambda row: words.verdict_words(comparison, row), False),
    ]


def _remarks(comparison: Comparison) -> list[str]:
    """Return what has to be said below the table."""
    unranked = why_not_ranked(comparison)
    lines = ["* no other file takes as little and diverges as little."] if pareto_rows(comparison) else []
    lines += [f"Text: {line}." for line in words.text_words(comparison)]
    lines.append(f"Rates: {words.rates_words(comparison.method)}.")
    lines += [f"{comparison.rows[number].name} is not ranked: {why}." for number, why in unranked.items()]
    lines += [f"{row.name} failed: {row.error}" for row in comparison.rows if row.error]
    versions = ", ".join(f"{name} {version}" for name, version in comparison.machine.versions.items() if version)
    return [*lines, f"Measured with {versions}."]


def _escaped(text: str) -> str:
    for mark in ("\\", "|", "*", "_", "`", "<", "[", "&", "~", "$"):
        text = text.replace(mark, f"\\{mark}")
    return visible(" ".join(text.split()))
