"""llama.cpp's log: silent, but its last lines are kept so that a failure can say why."""

import re
from collections import deque
from functools import cache
from typing import Any

from toolkit.llama.callbacks import Callback
from toolkit.llama.native import llama_cpp

MAX_LINES = 20_000
"""a large model leaves several for each of its tensors"""
_ERROR, _CONTINUED = 4, 5
_GENERIC = re.compile(r"failed to (load|create|initialize) (model|the context|context)\b[^:]*$", re.IGNORECASE)
_PREFIX = re.compile(r"^(?:(?:error loading model|[a-z]\w*_\w*): )*")


class LogRing:
    """The last lines of a log, each with its level."""

    def __init__(self, max_lines: int = MAX_LINES) -> None:
        self._lines: deque[tuple[int, str]] = deque(maxlen=max_lines)
        self._callback: Callback | None = None

    def divert(self) -> None:
        """Receive llama.cpp's log from now on; who imports llama-cpp-python's package leads it to stderr."""
        module = llama_cpp()
        if self._callback is None:
            self._callback = Callback(module.llama_log_callback, self._receive)
        module.llama_log_set(self._callback.pointer, None)

    def _receive(self, level: int, text: bytes, _user_data: Any) -> None:
        self.write(level, text.decode("utf-8", "replace"))

    def write(self, level: int, text: str) -> None:
        """Take one event, which may hold several lines or continue the last one."""
        if level == _CONTINUED and self._lines:
            level, begun = self._lines.pop()
            text = begun + text
        self._lines.extend((level, line) for line in text.split("\n") if line.strip())

    def begin(self) -> None:
        """Forget what was written, and make sure of what comes."""
        self._lines.clear()
        self.divert()

    def lines(self) -> list[str]:
        """Return the kept lines, oldest first."""
        return [line for _, line in self._lines]

    def reason(self) -> str:
        """Return the last error line that says more than that something failed, without the function's name."""
        reported = [line.strip() for level, line in self._lines if level == _ERROR]
        telling = [line for line in reported if not _GENERIC.search(line)] or reported
        return _PREFIX.sub("", telling[-1]) if telling else "llama.cpp gave no reason"


@cache
def llama_log() -> LogRing:
    """Return the ring that receives llama.cpp's log once it was diverted there."""
    return LogRing()
