"""What tests of verbs share: a tiny model, the same with 8 bits, and a text that is the same everywhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tiny_model import write_tiny_model

import toolkit
from toolkit.reporter import SILENT_TASK, Task


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Give the name of a GGUF file with two blocks in F16, and that as its file type."""
    folder = tmp_path_factory.mktemp("tiny")
    result = toolkit.quantize(write_tiny_model(folder / "raw.gguf"), folder / "tiny-F16.gguf", profile="f16")
    return str(result.paths[0])


@pytest.fixture(scope="session")
def tiny_q8_0(tiny: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Give the name of the same model in Q8_0."""
    result = toolkit.quantize(tiny, str(tmp_path_factory.mktemp("tiny") / "tiny-Q8_0.gguf"), profile="q8_0")
    return str(result.paths[0])


@pytest.fixture(scope="session")
def license_text() -> str:
    """Give the name of a text file of some hundred words."""
    return str(Path(__file__).parents[2] / "LICENSE")


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
