"""A comparison as plain values, for JSON."""

from dataclasses import asdict
from typing import Any

from toolkit.comparison.ranking import Difference, advise, differences, pareto_rows, verdicts_of, why_not_ranked
from toolkit.comparison.rows import Comparison, Quality, Row
from toolkit.llama.load_settings import KvTypes
from toolkit.measures.verdict import UseVerdict

_NO_RATES = (
    "prompt_tokens_per_second",
    "prompt_tokens_per_second_stddev",
    "generation_tokens_per_second",
    "generation_tokens_per_second_stddev",
)


def comparison_document(comparison: Comparison) -> dict[str, Any]:
    """Return everything that is known, row by row; what was not measured is None."""
    advice, on_front, unranked = advise(comparison), pareto_rows(comparison), why_not_ranked(comparison)
    rows = []
    for number, (row, difference) in enumerate(zip(comparison.rows, differences(comparison.rows), strict=True)):
        rows.append(
            {
                **_row(comparison, row),
                "advised": row is advice.row,
                "pareto": number in on_front,
                "not_ranked_because": unranked.get(number),
                "differs_from_the_row_above": _difference(difference),
            }
        )
    return {
        "model": comparison.model,
        "base": comparison.base.name if comparison.base is not None else None,
        "use": comparison.use.name,
        "advice": advice.sentence,
        "because": advice.detail,
        "rows": rows,
        "method": asdict(comparison.method),
        "machine": asdict(comparison.machine),
        "notes": list(comparison.notes),
    }


def _row(comparison: Comparison, row: Row) -> dict[str, Any]:
    kv_types = KvTypes.parse(row.kv)
    return {
        "name": row.name,
        "is_base": row.is_base,
        "output": row.path,
        "kv_type_k": kv_types.k,
        "kv_type_v": kv_types.v,
        "file_bytes": row.file_bytes,
        "bits_per_weight": row.bits_per_weight,
        **_memory(row),
        **_figures(row.quality),
        **(asdict(row.rates) if row.rates is not None else dict.fromkeys(_NO_RATES)),
        "texts": [_text(quality) for quality in row.qualities],
        "verdicts": [] if row.is_base else [verdict_document(verdict) for verdict in verdicts_of(comparison, row)],
        "error": row.error or None,
    }


def _memory(row: Row) -> dict[str, Any]:
    memory = row.memory
    if memory is None:
        return {"n_gpu_layers": None, "fits": None, "devices": []}
    names = ("n_gpu_layers", "n_layers", "fits", "fits_whole", "missing_bytes", "gpu_bytes", "answered_by")
    devices = [asdict(device) for device in memory.devices]
    return {name: getattr(memory, name) for name in names} | {"devices": devices}


def _figures(quality: Quality | None) -> dict[str, Any]:
    """Return the numbers of one text, under the names that `kld` has for them."""
    loss = quality.loss if quality is not None else None
    return {
        "perplexity": quality.perplexity.value if quality is not None else None,
        "perplexity_standard_error": quality.perplexity.error if quality is not None else None,
        "mean_kld": loss.mean.value if loss is not None else None,
        "mean_kld_standard_error": loss.mean.error if loss is not None else None,
        "median_kld": loss.median if loss is not None else None,
        "p99_kld": loss.p99 if loss is not None else None,
        "p999_kld": loss.p999.mean if loss is not None else None,
        "p999_kld_low": loss.p999.low if loss is not None else None,
        "p999_kld_high": loss.p999.high if loss is not None else None,
        "max_kld": loss.maximum if loss is not None else None,
        "same_top_fraction": loss.same_top.value if loss is not None else None,
        "same_top_fraction_standard_error": loss.same_top.error if loss is not None else None,
        "perplexity_ratio": loss.perplexity_ratio if loss is not None else None,
        "log_perplexity_ratio_standard_error": loss.log_ratio.error if loss is not None else None,
    }


def _text(quality: Quality) -> dict[str, Any]:
    about = {"kind": quality.kind, "text": quality.text, "tokens": quality.tokens}
    reason = {"not_comparable_because": quality.not_comparable or None}
    key = quality.key
    cut = {
        "text_sha256": key.text_sha256,
        "n_ctx_seq": key.n_ctx_seq,
        "chunks": key.chunks,
        "vocabulary": key.vocabulary,
    }
    return about | cut | reason | _figures(quality)


def verdict_document(verdict: UseVerdict) -> dict[str, Any]:
    """Return what a file is worth for a use, with every finding and where its thresholds come from."""
    basis = verdict.measurement.basis if verdict.measurement is not None else None
    return {
        "use": verdict.use.name,
        "level": str(verdict.level),
        "certain": verdict.is_certain,
        "possible": [str(level) for level in verdict.possible],
        "sentence": verdict.sentence,
        "rests_on": basis,
        "findings": [
            {
                "quantity": finding.threshold.quantity.name,
                "level": str(finding.level),
                **asdict(finding.measured),
                "good": finding.threshold.good,
                "noticeable": finding.threshold.noticeable,
                "source": finding.threshold.source.link if finding.threshold.source is not None else "judgement",
            }
            for finding in verdict.findings
        ],
    }


def _difference(difference: Difference | None) -> dict[str, Any] | None:
    return None if difference is None else {"answer": difference.answer, **asdict(difference.by)}
