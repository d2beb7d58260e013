"""What tests of verbs share: a reporter that keeps what it is given."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from toolkit.reporter import SILENT_TASK, Task


@dataclass
class Heard:
    """A reporter that keeps what it is given."""

    notes: list[str] = field(default_factory=list)
    details: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)

    def note(self, message: str) -> None:
        self.notes.append(message)

    def detail(self, message: str) -> None:
        self.details.append(message)

    def warn(self, message: str) -> None:
        self.warnings.append(message)

    @contextmanager
    def task(self, label: str, _total: int | None = None, **_unit: str) -> Iterator[Task]:
        self.tasks.append(label)
        yield SILENT_TASK


@pytest.fixture
def heard() -> Heard:
    """Give a reporter that keeps what it is given."""
    return Heard()
