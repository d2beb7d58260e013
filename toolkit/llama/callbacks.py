"""Python functions that native code calls: nothing that they raise is lost, and no signal is.

ctypes drops what a callback raises, and a signal that comes while one runs is raised inside it. So whatever native code
may call is a `Callback`, which keeps the exception, and whatever may call it runs in `native_code()`, within which signals
wait; both are raised where that ends.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_SIGNALS = tuple(
    number
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    if (number := getattr(signal, name, None)) is not None
)
_Handler = Callable[[int, FrameType | None], Any]


class _Waiting:
    """What is to be raised at the next safe point."""

    def __init__(self) -> None:
        self.depth = 0
        """of native code, in the main thread: the only one in which Python handles signals"""
        self.signals: list[int] = []
        self.exceptions: list[BaseException] = []
        self.handlers: dict[int, _Handler] = {}
        """those that were there before ours"""

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal, or let it wait for the end of native code."""
        if self.depth:
            self.signals.append(number)
        else:
            self.handlers[number](number, frame)

    def take_over(self) -> None:
        """Put `receive` before every handler that is a function; a signal that ends the process, or none, stays as it is."""
        for number in _SIGNALS:
            handler = signal.getsignal(number)
            if callable(handler) and handler != self.receive:
                self.handlers[number] = handler
                signal.signal(number, self.receive)

    def raise_first(self) -> None:
        """Raise what waits, if anything does."""
        signals, self.signals = self.signals, []
        exceptions, self.exceptions = self.exceptions, []
        for number in signals:
            self.handlers[number](number, None)
        if exceptions:
            raise exceptions[0]


_WAITING = _Waiting()


@contextmanager
def native_code() -> Iterator[None]:
    """Let signals wait while native code runs that may call back; raise at the end what waits or a callback raised.

    What native code gives must be stored within, because the end may raise.
    """
    if threading.current_thread() is not threading.main_thread():
        try:
            yield
        finally:
            _WAITING.raise_first()
        return
    _WAITING.take_over()
    _WAITING.depth += 1
    try:
        yield
    finally:
        _WAITING.depth -= 1
        if not _WAITING.depth:
            _WAITING.raise_first()


class Callback:
    """A function that native code may call through `pointer`; keep the object for as long as it does."""

    def __init__(self, type_: Any, function: Callable[..., Any], otherwise: Callable[..., Any] | None = None) -> None:
        """Take the ctypes type and the function.

        `otherwise` answers in its place once something waits to be raised, so that native code ends soon; without it the
        function is called all the same.
        """
        self._function, self._otherwise = function, otherwise
        self.pointer = type_(self._call)

    def _call(self, *arguments: Any) -> Any:
        try:
            if self._otherwise is None or not (_WAITING.signals or _WAITING.exceptions):
                return self._function(*arguments)
        except BaseException as error:  # nothing may be raised through native code
            _WAITING.exceptions.append(error)
        return None if self._otherwise is None else self._otherwise(*arguments)


def ends_the_graph(_pointer: int, ask: bool, _user_data: object) -> bool:
    """Answer so that ggml computes as little more as can be: the node that it asks about, and none after that."""
    return ask
