"""Who hears of the work while it goes on: notes, warnings, and how far each task is."""

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Literal, Protocol

Unit = Literal["steps", "bytes"]


class Task(Protocol):
    """A piece of work whose progress is shown."""

    def advance(self, amount: int = 1) -> None:
        """Say that `amount` more steps or bytes are done."""
        ...

    def update(self, done: int, total: int, value: str = "") -> None:
        """Say that `done` of `total` are done, and what the result is so far."""
        ...


class Reporter(Protocol):
    """Takes what a verb has to say before its result; the command line prints it on stderr."""

    def note(self, message: str) -> None:
        """Take a line that says what is being done."""
        ...

    def detail(self, message: str) -> None:
        """Take a line about what went as planned, which is a part of the result as well."""
        ...

    def warn(self, message: str) -> None:
        """Take a line that says what may be wrong, though the work goes on."""
        ...

    def task(self, label: str, total: int | None = None, *, unit: Unit = "steps") -> AbstractContextManager[Task]:
        """Give the progress of a task of `total` steps or bytes; None where it is not known yet."""
        ...


class _SilentTask:
    def advance(self, amount: int = 1) -> None:
        """Drop the progress."""

    def update(self, done: int, total: int, value: str = "") -> None:
        """Drop the progress."""


class LoggingReporter:
    """Hands notes and warnings to the logger `toolkit`, which shows warnings unless it was set up otherwise."""

    def __init__(self) -> None:
        self._logger = logging.getLogger("toolkit")

    def note(self, message: str) -> None:
        """Log a message for information."""
        self._logger.info("%s", message)

    def detail(self, message: str) -> None:
        """Log a message for whoever looks into it."""
        self._logger.debug("%s", message)

    def warn(self, message: str) -> None:
        """Log a warning."""
        self._logger.warning("%s", message)

    @contextmanager
    def task(self, *_label_and_total: object, **_unit: object) -> Iterator[Task]:
        """Show nothing of a task."""
        yield SILENT_TASK


class WithoutDetails:
    """Hands on to another reporter all but details."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self.note, self.warn, self.task = reporter.note, reporter.warn, reporter.task

    def detail(self, message: str) -> None:
        """Drop a message."""


SILENT_TASK: Task = _SilentTask()
LOGGING: Reporter = LoggingReporter()
"""The reporter of those who name none."""
