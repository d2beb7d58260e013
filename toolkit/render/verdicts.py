"""Verdicts as JSON."""

from dataclasses import asdict
from typing import Any

from toolkit.measures.verdict import UseVerdict


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
