"""Tables of plain text, aligned, that pipe well."""

from collections.abc import Sequence

from toolkit.cli.output import echo
from toolkit.visible_text import visible


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> None:
    """Print aligned columns on stdout; the columns numbered in `right` are aligned to the right."""
    lines = [[visible(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    for row in lines:
        cells = [
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        echo("  ".join(cells).rstrip())
