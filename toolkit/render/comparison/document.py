"""A comparison as plain values, for JSON."""

from dataclasses import asdict
from typing import Any

from toolkit.comparison.rows import Comparison
from toolkit.render.comparison.columns import COLUMNS
from toolkit.render.comparison.view import ComparisonView


def comparison_document(comparison: Comparison) -> dict[str, Any]:
    """Return everything that is known, row by row; what was not measured is None."""
    view = ComparisonView(comparison)
    return {
        "model": comparison.model,
        "base": comparison.base.name if comparison.base is not None else None,
        "use": comparison.use.name,
        "advice": view.advice.sentence,
        "because": view.advice.detail,
        "rows": [
            {key: value for column in COLUMNS for key, value in column.document(row).items()} for row in view.rows
        ],
        "method": asdict(comparison.method),
        "machine": asdict(comparison.machine),
        "notes": list(comparison.notes),
    }
