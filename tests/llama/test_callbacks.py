"""What a callback raises, and signals that come while native code runs, are raised where it ends."""

import ctypes
import os
import signal
import threading

import pytest

from toolkit.llama.callbacks import Callback, native_code

COMPARES = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
LIBRARY = ctypes.CDLL(None)


def sort(callback: Callback, count: int = 64) -> None:
    """Have the C library call back many times."""
    numbers = (ctypes.c_int * count)(*range(count, 0, -1))
    LIBRARY.qsort(numbers, count, ctypes.sizeof(ctypes.c_int), callback.pointer)


@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt, SystemExit])
def test_the_first_exception_is_raised_at_the_end_and_the_function_is_not_called_again(fault):
    calls = []

    def compare(*_):
        calls.append(1)
        raise fault(f"call {len(calls)}")

    with pytest.raises(fault, match="call 1"), native_code():
        sort(Callback(COMPARES, compare, lambda *_: 0))
    assert len(calls) == 1


def test_what_was_raised_outside_waits_for_the_next_end():
    def compare(*_):
        raise OSError("full")

    sort(Callback(COMPARES, compare, lambda *_: 0))
    with pytest.raises(OSError, match="full"), native_code():
        pass
    with native_code():
        pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_within_a_callback_waits_and_reaches_the_handler_that_was_there(number):
    heard, calls = [], []

    def compare(*_):
        calls.append(1)
        os.kill(os.getpid(), number)
        # Python runs handlers between two lines such as these.
        return len(calls)

    before = signal.signal(number, lambda *_: heard.append(len(calls)))
    try:
        with native_code():
            sort(Callback(COMPARES, compare, lambda *_: 0))
            assert not heard
        assert (calls, heard) == ([1], [1])
        os.kill(os.getpid(), number)
        assert heard == [1, 1], "outside native code it comes at once"
    finally:
        signal.signal(number, before)


def test_a_signal_that_ends_the_process_is_left_alone():
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with native_code():
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


def test_another_thread_raises_what_its_own_callbacks_did():
    found = []

    def run():
        try:
            with native_code():
                sort(Callback(COMPARES, lambda *_: 1 // 0, lambda *_: 0))
        except ZeroDivisionError as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found
