"""What the command line shows while a verb works: lines on stderr, and bars for people only.

No bar is drawn, and rich is not loaded, where stderr is no terminal.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from toolkit.cli.output import tell
from toolkit.reporter import SILENT_TASK, Reporter, Task, Unit, WithoutDetails
from toolkit.visible_text import visible


class ConsoleReporter:
    """Prints notes and warnings on stderr, and draws a bar for each task."""

    def note(self, message: str) -> None:
        """Print a line."""
        tell(message)

    def detail(self, message: str) -> None:
        """Print a line."""
        tell(message)

    def warn(self, message: str) -> None:
        """Print a warning."""
        tell(f"warning: {message}")

    @contextmanager
    def task(self, label: str, total: int | None = None, *, unit: Unit = "steps") -> Iterator[Task]:
        """Draw the bar of a task."""
        if not sys.stderr.isatty():
            yield SILENT_TASK
            return
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        count = DownloadColumn(binary_units=True) if unit == "bytes" else MofNCompleteColumn()
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), count, TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
            task = bars.add_task(visible(label), total=total)

            class _Bar:
                def advance(self, amount: int = 1) -> None:
                    bars.advance(task, amount)

                def update(self, done: int, total: int, value: str = "") -> None:
                    text = visible(f"{label}  {value}".rstrip())
                    bars.update(task, completed=done, total=total, description=text)

            yield _Bar()


CONSOLE: Reporter = ConsoleReporter()


def console(*, as_json: bool) -> Reporter:
    """Return the reporter of a command: with --json, what its document says is not printed on stderr as well."""
    return WithoutDetails(CONSOLE) if as_json else CONSOLE
