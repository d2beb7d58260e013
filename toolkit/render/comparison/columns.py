"""What is shown of every row of a comparison, once for all forms: text, Markdown, the page, JSON and CSV."""

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, asdict, dataclass, field, is_dataclass
from typing import Any

from toolkit.comparison.rows import Quality
from toolkit.render.comparison import cells
from toolkit.render.comparison.view import ComparisonView, RowView
from toolkit.render.verdicts import verdict_document


@dataclass(frozen=True)
class Column:
    """One thing that is known of a row. A form in which it has no heading shows none.

    Headings may name the `words` of a comparison: `pp{n_prompt}`.
    """

    text: str = ""
    """heading of the table on the terminal"""
    markdown: str = ""
    """heading of the table for a model card"""
    page: str = ""
    """heading of the table of the page"""
    _: KW_ONLY
    cell: Callable[[RowView], str] = lambda _: cells.NOTHING
    """what these tables show; what follows ` ± ` stands below on the page"""
    below: Callable[[RowView], str] = lambda _: ""
    """what stands below on the page"""
    css_class: Callable[[RowView], str] = lambda _: ""
    """how the page shows the cell"""
    on_page: Callable[[ComparisonView], bool] = lambda _: True
    left_aligned: bool = False
    explanation: Callable[[ComparisonView], str] = lambda _: ""
    """a sentence above the table of the page"""
    values: Mapping[str, str | Callable[[RowView], Any]] = field(default_factory=dict)
    """key in JSON and CSV -> the path of the value from a RowView, or a function of it"""
    figures: Mapping[str, str] = field(default_factory=dict)
    """the same from a Quality: the row has those of the first text, and `texts` those of each"""
    json_only: frozenset[str] = frozenset()
    """keys that the CSV leaves out"""
    absent_without_value: frozenset[str] = frozenset()
    """keys that JSON leaves out, in place of a null"""

    def document(self, view: RowView) -> dict[str, Any]:
        """Return what JSON says of a row."""
        values = {key: path(view) if callable(path) else _value(view, path) for key, path in self.values.items()}
        left_out = {key for key in self.absent_without_value if values[key] is None}
        known = {key: value for key, value in values.items() if key not in left_out}
        return known | self.figures_of(view.row.quality)

    def figures_of(self, quality: Quality | None) -> dict[str, Any]:
        """Return what JSON says of one text."""
        return {key: _value(quality, path) for key, path in self.figures.items()}

    @property
    def csv_keys(self) -> list[str]:
        """Return the keys that are columns of the CSV."""
        return [key for key in (*self.values, *self.figures) if key not in self.json_only]


def _value(start: object, path: str) -> Any:
    """Return the attribute at a dotted path, None where a step is None."""
    value: Any = start
    for name in path.split("."):
        if value is None:
            return None
        value = getattr(value, name)
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def _text_document(quality: Quality) -> dict[str, Any]:
    key = quality.key
    return {
        "kind": quality.kind,
        "text": quality.text,
        "tokens": quality.tokens,
        "text_sha256": key.text_sha256,
        "n_ctx_seq": key.n_ctx_seq,
        "chunks": key.chunks,
        "vocabulary": key.vocabulary,
        "not_comparable_because": quality.not_comparable or None,
    } | {name: value for column in COLUMNS for name, value in column.figures_of(quality).items()}


def _difference_document(view: RowView) -> dict[str, Any] | None:
    difference = view.difference
    return None if difference is None else {"answer": difference.answer, **asdict(difference.by)}


COLUMNS = (
    Column(
        "   file",
        "File",
        "File",
        cell=lambda view: view.label,
        left_aligned=True,
        explanation=lambda _: "A dot before the name: no other file takes as little and diverges as little.",
        values={"name": "row.name", "output": "row.path"},
        json_only=frozenset({"output"}),
    ),
    Column(values={"kv_type_k": "kv_types.k", "kv_type_v": "kv_types.v", "is_base": "row.is_base"}),
    Column(
        "size",
        "Size",
        "Size",
        cell=lambda view: cells.file_size(view.row),
        below=lambda view: f"{cells.bits(view.row)} bits",
        values={"file_bytes": "row.file_bytes"},
    ),
    Column(
        "bits",
        "Bits",
        cell=lambda view: cells.bits(view.row),
        values={"bits_per_weight": "row.bits_per_weight"},
    ),
    Column(
        "{memory}",
        "{memory}",
        "{memory}",
        cell=lambda view: cells.memory(view.row),
        below=lambda view: cells.layers_of(view.row),
        values={
            "gpu_bytes": "row.memory.gpu_bytes",
            "answered_by": "row.memory.answered_by",
            "devices": lambda view: [asdict(device) for device in view.row.memory.devices] if view.row.memory else [],
        },
        json_only=frozenset({"answered_by", "devices"}),
        absent_without_value=frozenset({"gpu_bytes", "answered_by"}),
    ),
    Column(
        "layers",
        cell=lambda view: cells.layers(view.row),
        values={
            "n_gpu_layers": "row.memory.n_gpu_layers",
            "n_layers": "row.memory.n_layers",
            "fits": "row.memory.fits",
            "fits_whole": "row.memory.fits_whole",
            "missing_bytes": "row.memory.missing_bytes",
        },
        json_only=frozenset({"n_layers", "fits_whole", "missing_bytes"}),
        absent_without_value=frozenset({"n_layers", "fits_whole", "missing_bytes"}),
    ),
    Column(
        "PPL",
        "PPL",
        "Perplexity",
        cell=lambda view: cells.perplexity(view.row),
        figures={"perplexity": "perplexity.value", "perplexity_standard_error": "perplexity.error"},
    ),
    Column(
        "mean KLD",
        "Mean KLD",
        "Mean KLD",
        cell=lambda view: cells.mean_divergence(view.row),
        explanation=lambda _: (
            "Divergence (KLD) is from the unquantized model, in nats a token; ± is the standard error."
        ),
        figures={"mean_kld": "divergence.mean.value", "mean_kld_standard_error": "divergence.mean.error"},
    ),
    Column(figures={"median_kld": "divergence.median", "p99_kld": "divergence.p99"}),
    Column(
        "99.9 %",
        "99.9 % KLD",
        "99.9 % KLD",
        cell=lambda view: cells.tail_divergence(view.row),
        figures={
            "p999_kld": "divergence.p999.mean",
            "p999_kld_low": "divergence.p999.low",
            "p999_kld_high": "divergence.p999.high",
        },
        json_only=frozenset({"p999_kld_low", "p999_kld_high"}),
    ),
    Column(figures={"max_kld": "divergence.maximum"}),
    Column(
        "same top",
        "Same top",
        "Same top",
        cell=lambda view: cells.same_top(view.row),
        figures={
            "same_top_fraction": "divergence.same_top.value",
            "same_top_fraction_standard_error": "divergence.same_top.error",
        },
        json_only=frozenset({"same_top_fraction_standard_error"}),
    ),
    Column(
        figures={
            "perplexity_ratio": "divergence.perplexity_ratio",
            "log_perplexity_ratio_standard_error": "divergence.log_ratio.error",
        },
        json_only=frozenset({"log_perplexity_ratio_standard_error"}),
    ),
    Column(
        "pp{n_prompt}",
        "pp{n_prompt}",
        "Reads",
        cell=lambda view: cells.prompt_rate(view.row),
        below=lambda _: "tokens/s",
        on_page=lambda view: view.has_rates,
        values={
            "prompt_tokens_per_second": "row.rates.prompt_tokens_per_second",
            "prompt_tokens_per_second_stddev": "row.rates.prompt_tokens_per_second_stddev",
        },
        json_only=frozenset({"prompt_tokens_per_second_stddev"}),
    ),
    Column(
        "tg{n_generate}",
        "tg{n_generate}",
        "Generates",
        cell=lambda view: cells.generation_rate(view.row),
        below=lambda _: "tokens/s",
        on_page=lambda view: view.has_rates,
        values={
            "generation_tokens_per_second": "row.rates.generation_tokens_per_second",
            "generation_tokens_per_second_stddev": "row.rates.generation_tokens_per_second_stddev",
        },
        json_only=frozenset({"generation_tokens_per_second_stddev"}),
    ),
    Column(
        "differs",
        "",
        "Differs",
        cell=lambda view: view.difference.answer if view.difference is not None else cells.NOTHING,
        on_page=lambda view: view.has_differences,
        explanation=lambda _: "Whether a file differs is said of its divergence and that of the row above.",
        values={"differs_from_the_row_above": _difference_document},
        json_only=frozenset({"differs_from_the_row_above"}),
    ),
    Column(
        "{use}",
        "For {use}",
        "For {use}",
        cell=lambda view: cells.verdict_text(view.view.comparison, view.row),
        css_class=lambda view: cells.verdict_class(view.view.comparison, view.row),
        left_aligned=True,
        explanation=lambda view: (
            "Where a verdict has a question mark, more text could change it." if view.has_open_verdicts else ""
        ),
        values={"verdicts": lambda view: [verdict_document(verdict) for verdict in view.verdicts]},
        json_only=frozenset({"verdicts"}),
    ),
    Column(
        values={
            "texts": lambda view: [_text_document(quality) for quality in view.row.qualities],
            "not_ranked_because": "not_ranked_because",
            "pareto": "on_front",
            "advised": "is_advised",
            "error": lambda view: view.row.error or None,
        },
        json_only=frozenset({"texts", "not_ranked_because"}),
    ),
)
"""In the order of the tables and of the CSV. The CSV ends with a verdict for every use, which its thresholds name."""
