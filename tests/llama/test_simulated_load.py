"""What a simulated load is led through: where libllama keeps the function, and which schedulers it leaves alone."""

import ctypes
import sys

import pytest

from toolkit.llama import simulated_load
from toolkit.llama.native import ggml_library
from toolkit.llama.simulated_load import RESERVE, divide_as_a_real_load, is_known


def test_libllama_calls_the_function_through_an_entry_that_is_led_elsewhere_once() -> None:
    if sys.platform != "linux":
        assert not divide_as_a_real_load()
        return
    [address] = simulated_load._entries(RESERVE)
    assert divide_as_a_real_load()
    entry = ctypes.c_size_t.from_address(address).value
    assert entry == ctypes.cast(simulated_load._HOOK.pointer, ctypes.c_void_p).value
    # What it calls itself is ggml's own function still.
    own = ctypes.cast(ggml_library("ggml-base")[RESERVE], ctypes.c_void_p).value
    assert own != entry
    assert divide_as_a_real_load()
    assert ctypes.c_size_t.from_address(address).value == entry


def test_a_function_that_libllama_does_not_call_has_no_entry() -> None:
    assert list(simulated_load._entries("no_such_function")) == []


@pytest.mark.parametrize(
    ("beginning", "known"),
    [((0, 0, 3), True), ((1, 0, 3), True), ((2, 0, 3), False), ((0, 7, 3), False), ((0, 0, 4), False)],
)
def test_only_a_scheduler_that_begins_as_is_known_is_changed(beginning: tuple[int, int, int], known: bool) -> None:
    assert is_known(simulated_load._Scheduler(*beginning), 3) is known


def test_memory_that_is_closed_to_writing_is_opened_for_an_entry() -> None:
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_size_t]
    read_only, private_anonymous = 1, 0x22
    page = library.mmap(None, 4096, read_only, private_anonymous, -1, 0)
    assert not simulated_load._is_writable(page + 8)
    simulated_load._write(page + 8, 77)
    assert ctypes.c_size_t.from_address(page + 8).value == 77
    assert simulated_load._is_writable(page + 8)
