"""How many bytes a model, its KV cache and its compute graph take on every device, asked of llama.cpp itself.

The question is put to a child process that stays warm: native code that aborts costs one answer, not the program,
and a simulated device is registered there and nowhere else.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from toolkit.errors import EnvironmentFaultError, ToolkitError
from toolkit.llama.footprint import Footprint, footprint_from
from toolkit.llama.load_settings import LoadSettings
from toolkit.llama.opening import Opening, death_of, error_from, opening_from
from toolkit.machine.child_process import ChildProcess

_CHILD = "toolkit.memory.child"
FROM_LOG = "--from-log"
"""argument of the child: read llama.cpp's log everywhere"""


class MemoryProbe:
    """A warm child process that answers how much memory a GGUF file, or a skeleton of one, would take."""

    def __init__(self, timeout_seconds: float = 600, *, from_log: bool = False) -> None:
        """Start nothing yet; `from_log` reads llama.cpp's log even where its own account can be read."""
        self._timeout_seconds = timeout_seconds
        self.from_log = from_log
        self._child: ChildProcess | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def predict(self, path: Path, settings: LoadSettings) -> Footprint:
        """Return the bytes that loading `path` with `settings` would take; nothing is allocated.

        Raises GgufError if llama.cpp refuses the file, EnvironmentFaultError if it cannot answer.
        """
        return _footprint(self._ask(path, [settings], allocate=False)[0])

    def measure(self, path: Path, settings: LoadSettings) -> Footprint:
        """Return the bytes that are taken after `path` was loaded for real, and free them again."""
        return _footprint(self._ask(path, [settings], allocate=True)[0])

    def measure_each(self, path: Path, every: Sequence[LoadSettings]) -> list[Footprint | ToolkitError]:
        """Return the same for several settings, or why llama.cpp refuses one of them.

        Settings in a row that differ in their contexts only share one load.
        """
        return [_footprint_or_error(answer) for answer in self._ask(path, every, allocate=True)]

    def hold(self, path: Path, settings: LoadSettings) -> Footprint:
        """Load `path` and evaluate a batch, and return what it takes; it stays loaded until the next question.

        Who looks at the device from outside finds it at work under `pid`.
        """
        return _footprint(self._ask(path, [settings], allocate=True, hold=True)[0])

    def opens(self, path: Path, settings: LoadSettings) -> Opening:
        """Have the child open a file whole; see `opening.check_opens`."""
        return opening_from(self._ask(path, [settings], allocate=False, open=True)[0])

    def free_bytes(self, settings: LoadSettings) -> tuple[int, ...]:
        """Return what each device that the settings mean has free now, 0 where its backend does not tell."""
        answer = self._ask(Path(), [settings], allocate=False, devices_only=True)[0]
        if "error" in answer:
            raise error_from(answer)
        return tuple(answer["free_bytes"])

    @property
    def pid(self) -> int | None:
        """Return the child's process number, None where there is none."""
        return None if self._child is None else self._child.pid

    def close(self) -> None:
        """End the child process; the next question starts another."""
        child, self._child = self._child, None
        if child is not None:
            child.close()

    def _ask(self, path: Path, every: Sequence[LoadSettings], *, allocate: bool, **flags: bool) -> list[dict[str, Any]]:
        settings = [asdict(each) for each in every]
        request = {"path": str(path), "settings": settings, "allocate": allocate, **flags}
        if self._child is None:
            self._child = ChildProcess(_CHILD, (FROM_LOG,) if self.from_log else ())
        answer = self._child.ask(json.dumps(request), self._timeout_seconds)
        if answer is None:
            code, messages = self._child.exit_code(), self._child.messages()
            reason = self._child.last_words(self._timeout_seconds)
            self.close()
            died = None if code is None else death_of(path, code, messages)
            raise died or EnvironmentFaultError(f"{path}: its memory could not be told, llama.cpp {reason}")
        answers: list[dict[str, Any]] = json.loads(answer)
        return answers


def _footprint(answer: dict[str, Any]) -> Footprint:
    footprint = _footprint_or_error(answer)
    if isinstance(footprint, ToolkitError):
        raise footprint
    return footprint


def _footprint_or_error(answer: dict[str, Any]) -> Footprint | ToolkitError:
    return error_from(answer) if "error" in answer else footprint_from(answer)
