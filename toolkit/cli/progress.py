"""Progress bars on stderr, for people only: nothing is drawn where stderr is not a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

Tell = Callable[[int, int, str], None]
"""takes the steps done, the steps in all, and the value so far"""


@contextmanager
def progress_bar(label: str, total: int, *, unit_bytes: bool = True) -> Iterator[Callable[[int], None]]:
    """Give a function that advances a bar by a number of bytes (or of steps)."""
    with _bar(unit_bytes=unit_bytes) as bar:
        task = bar.add_task(label, total=total)
        yield lambda advance: bar.advance(task, advance)


@contextmanager
def value_bar(label: str) -> Iterator[Tell]:
    """Give a function that moves a bar, and shows a value beside it."""
    with _bar(unit_bytes=False) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total, value: bar.update(
            task, completed=done, total=total, description=f"{label}  {value}".rstrip()
        )


def _bar(*, unit_bytes: bool) -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    count = DownloadColumn(binary_units=True) if unit_bytes else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), count, TimeRemainingColumn())
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
