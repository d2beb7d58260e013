"""Progress bars on stderr, for people only: nothing is drawn, and rich not loaded, where stderr is no terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from toolkit.visible_text import visible

if TYPE_CHECKING:
    from rich.progress import Progress

Tell = Callable[[int, int, str], None]
"""takes the steps done, the steps in all, and the value so far"""


@contextmanager
def progress_bar(label: str, total: int, *, unit_bytes: bool = True) -> Iterator[Callable[[int], None]]:
    """Give a function that advances a bar by a number of bytes (or of steps)."""
    if not sys.stderr.isatty():
        yield lambda _advance: None
        return
    with _bar(unit_bytes=unit_bytes) as bar:
        task = bar.add_task(visible(label), total=total)
        yield lambda advance: bar.advance(task, advance)


@contextmanager
def value_bar(label: str) -> Iterator[Tell]:
    """Give a function that moves a bar, and shows a value beside it."""
    if not sys.stderr.isatty():
        yield lambda _done, _total, _value: None
        return
    with _bar(unit_bytes=False) as bar:
        task = bar.add_task(visible(label), total=None)
        yield lambda done, total, value: bar.update(
            task, completed=done, total=total, description=visible(f"{label}  {value}".rstrip())
        )


def _bar(*, unit_bytes: bool) -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    count = DownloadColumn(binary_units=True) if unit_bytes else MofNCompleteColumn()
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), count, TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)
