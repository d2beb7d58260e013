"""Planned files with all but their weights, for tests that look at headers and sizes only."""

from pathlib import Path

from toolkit.conversion.tensor_plan import ConversionPlan


def write_without_weights(plan: ConversionPlan, output: Path) -> None:
    """Write the header, and a hole where the weights would be."""
    with output.open("wb") as file:
        file.write(plan.layout.header)
        file.truncate(plan.file_bytes)
