"""A process of Python that answers questions: a request a line goes in, an answer a line comes out, or none in time."""

import queue
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress

from toolkit.machine.host import child_environment


class ChildProcess:
    """The process, and a thread that collects its answers so that waiting for one can end."""

    def __init__(self, module: str, arguments: tuple[str, ...] = ()) -> None:
        """Start the process, which runs a module with arguments."""
        self._answers: queue.Queue[str | None] = queue.Queue()
        self._messages = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the child
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._messages,
            env=child_environment(),
            encoding="utf-8",
        )
        self._collector = threading.Thread(target=self._collect, daemon=True)
        self._collector.start()

    @property
    def pid(self) -> int:
        """Return the number of the process."""
        return self._process.pid

    def ask(self, line: str, timeout_seconds: float) -> str | None:
        """Return the answer to a request, None if there is none in time or ever."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
            return self._answers.get(timeout=timeout_seconds)
        except (BrokenPipeError, queue.Empty):
            return None

    def exit_code(self) -> int | None:
        """Return the code of a process that has ended, or is about to; None of one that goes on."""
        try:
            return self._process.wait(1)
        except subprocess.TimeoutExpired:
            return None

    def messages(self) -> str:
        """Return what it has written to stderr."""
        self._messages.seek(0)
        return self._messages.read().decode("utf-8", "replace")

    def last_words(self, timeout_seconds: float) -> str:
        """Return why there was no answer."""
        code = self.exit_code()
        if code is None:
            return f"gave no answer in {timeout_seconds:g} s"
        lines = self.messages().strip().splitlines()
        return f"ended with code {code}: {lines[-1] if lines else 'it left no message'}"

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self._collector.join()
        for stream in (self._process.stdin, self._process.stdout, self._messages):
            if stream is not None:
                # A request that the process did not live to read stays in the buffer.
                with suppress(BrokenPipeError):
                    stream.close()

    def _collect(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put(None)
