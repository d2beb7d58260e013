"""Let a load without memory divide its graph between devices as a real one does.

While a graph is built, llama.cpp puts some of its nodes on a device (`llama_context::graph_get_cb`: the first norm and the
end of a layer, so that they do not follow the layer beside). A real load goes on from there, but one without memory calls
`ggml_backend_sched_reserve_size`, which forgets it first: with several devices, and with overrides, activations are then
copied elsewhere, and its compute buffers come out larger or smaller than the real ones. A scheduler that counts as reset
is not reset again. So libllama's entry for that function is led through one that says so, by the scheduler's first byte
(`is_reset` of `ggml_backend_sched` in ggml/src/ggml-backend.cpp of llama.cpp, commit 0c1e570). Where that entry is not
found, or the scheduler does not begin as it did there, nothing is changed.
"""

import ctypes
import os
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from toolkit.llama.callbacks import Callback
from toolkit.llama.native import INT, declared, llama_cpp

RESERVE = "ggml_backend_sched_reserve_size"
_POINTER = ctypes.c_void_p
_Reserve = ctypes.CFUNCTYPE(None, _POINTER, _POINTER, _POINTER)
_RTLD_DI_LINKMAP = 2
_PLT_SIZE, _STRINGS, _SYMBOLS, _RELOCATIONS, _RELOCATIONS_SIZE, _PLT = 2, 5, 6, 7, 8, 23
"""entries of an ELF file's dynamic section"""
_READ, _WRITE = 1, 2


class _Scheduler(ctypes.Structure):
    """How a `ggml_backend_sched` begins."""

    _fields_ = [("is_reset", ctypes.c_uint8), ("is_allocated", ctypes.c_uint8), ("n_backends", ctypes.c_int)]


class _LinkMap(ctypes.Structure):
    _fields_ = [("base", ctypes.c_size_t), ("name", ctypes.c_char_p), ("dynamic", ctypes.c_size_t)]


class _Dynamic(ctypes.Structure):
    _fields_ = [("tag", ctypes.c_int64), ("value", ctypes.c_size_t)]


class _Relocation(ctypes.Structure):
    _fields_ = [("offset", ctypes.c_size_t), ("info", ctypes.c_uint64), ("addend", ctypes.c_int64)]


class _Symbol(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_uint32),
        ("info", ctypes.c_uint8),
        ("other", ctypes.c_uint8),
        ("section", ctypes.c_uint16),
        ("value", ctypes.c_uint64),
        ("size", ctypes.c_uint64),
    ]


@cache
def divide_as_a_real_load() -> bool:
    """Lead simulated loads of this process through `_reserve`; tell whether that was possible."""
    entries = list(_entries(RESERVE)) if sys.platform == "linux" and sys.maxsize > 1 << 32 else []
    for address in entries:
        _write(address, ctypes.cast(_HOOK.pointer, _POINTER).value or 0)
    return bool(entries)


def _reserve(scheduler: int, graph: int, sizes: int) -> None:
    """Call ggml's function for a scheduler that keeps what was decided of the graph's nodes."""
    beginning = _Scheduler.from_address(scheduler)
    if is_known(beginning, _ggml().ggml_backend_sched_get_n_backends(scheduler)):
        beginning.is_reset = 1
    _ggml().ggml_backend_sched_reserve_size(scheduler, graph, sizes)


def is_known(beginning: _Scheduler, n_backends: int) -> bool:
    """Tell whether a scheduler begins as is known, by the number of its backends and by what flags can be."""
    return bool(beginning.n_backends == n_backends and max(beginning.is_reset, beginning.is_allocated) <= 1)


_HOOK = Callback(_Reserve, _reserve)


@cache
def _ggml() -> Any:
    signatures = {
        RESERVE: (None, (_POINTER, _POINTER, _POINTER)),
        "ggml_backend_sched_get_n_backends": (INT, (_POINTER,)),
    }
    return declared("ggml-base", signatures)


def _entries(function: str) -> Iterator[int]:
    """Yield the addresses at which libllama keeps where a function of another library is."""
    linked = _link_map()
    section = _dynamic_section(linked)
    # glibc has made addresses of these values, other libraries leave offsets.
    where = {tag: value if value >= linked.base else linked.base + value for tag, value in section.items()}
    for start, size in ((_PLT, _PLT_SIZE), (_RELOCATIONS, _RELOCATIONS_SIZE)):
        for place in range(section.get(size, 0) // ctypes.sizeof(_Relocation) if start in section else 0):
            entry = _Relocation.from_address(where[start] + place * ctypes.sizeof(_Relocation))
            number = entry.info >> 32
            symbol = _Symbol.from_address(where[_SYMBOLS] + number * ctypes.sizeof(_Symbol))
            if number and ctypes.string_at(where[_STRINGS] + symbol.name) == function.encode():
                yield linked.base + entry.offset


def _link_map() -> _LinkMap:
    library = llama_cpp()._lib
    linked = ctypes.POINTER(_LinkMap)()
    dlinfo = ctypes.CDLL(None).dlinfo
    dlinfo.argtypes = [_POINTER, ctypes.c_int, _POINTER]
    if dlinfo(library._handle, _RTLD_DI_LINKMAP, ctypes.byref(linked)) != 0:
        return _LinkMap()
    found: _LinkMap = linked.contents
    return found


def _dynamic_section(linked: _LinkMap) -> dict[int, int]:
    found: dict[int, int] = {}
    address = linked.dynamic
    while address and (entry := _Dynamic.from_address(address)).tag:
        found.setdefault(entry.tag, entry.value)
        address += ctypes.sizeof(_Dynamic)
    return found


def _write(address: int, value: int) -> None:
    """Write an entry, in memory that may have been closed to writing once the library was linked."""
    if not _is_writable(address):
        page = os.sysconf("SC_PAGE_SIZE")
        protect = ctypes.CDLL(None).mprotect
        protect.argtypes = [ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int]
        protect(address // page * page, page, _READ | _WRITE)
    ctypes.c_size_t.from_address(address).value = value


def _is_writable(address: int) -> bool:
    for line in Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines():
        span, permissions, *_ = line.split(maxsplit=2)
        start, stop = (int(part, 16) for part in span.split("-"))
        if start <= address < stop:
            return "w" in permissions
    return False
