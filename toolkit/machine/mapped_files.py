"""Files that are read through a memory map, by us or by native code, and what happens if they change meanwhile.

Reading what was cut off a mapped file makes the system send SIGBUS, which ends the process without a message. On Linux a
handler maps pages of zeros in place of the missing ones, so that reading goes on, and notes the file; the next check raises.
All that is made of mapped files is checked before it is kept, so that no such zero gets into an output. Elsewhere files are
checked before they are read, which leaves a moment in which the process can be ended.

Source: sigaction(2), and `struct sigaction` and `siginfo_t` of the C libraries of 64-bit Linux.
"""

import ctypes
import mmap
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from toolkit.errors import InputError

_SA_SIGINFO = 4
_ADDRESS_AT = 16
"""of the fault, in siginfo_t"""
_FIXED = 0x10
_PAGE = mmap.PAGESIZE
_SHARED_AND_READ_ONLY = "r--s"


@dataclass(frozen=True)
class WatchedFile:
    """A file, and what it was when it was opened."""

    path: Path
    state: os.stat_result

    def check(self) -> None:
        """Raise InputError if the file was changed; a new file under its name does not matter, since the old one stays mapped."""
        try:
            now = self.path.stat()
        except OSError:
            return
        if (now.st_dev, now.st_ino) != (self.state.st_dev, self.state.st_ino):
            return
        if now.st_size < self.state.st_size:
            raise InputError(_cut_off(str(self.path)))
        if (now.st_size, now.st_mtime_ns) != (self.state.st_size, self.state.st_mtime_ns):
            raise InputError(
                f"{self.path} was modified while it was read, so what was made of it is a mixture and is not kept; run it again once "
                "nobody writes to it"
            )


class _Seen:
    """The state of files when they were mapped last, and those of which a part was missing."""

    states: ClassVar[dict[Path, os.stat_result]] = {}
    cut_off: tuple[str, ...] = ()


def map_file(path: Path) -> mmap.mmap:
    """Return a read-only map of a file.

    Raises OSError or ValueError as the system does, for an empty file too.
    """
    guard_mapped_reads()
    with path.open("rb") as file:
        _Seen.states[path] = os.fstat(file.fileno())
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def as_mapped(paths: Iterable[Path]) -> tuple[WatchedFile, ...]:
    """Return files as they were when `map_file` mapped them; others are left out."""
    return tuple(WatchedFile(path, _Seen.states[path]) for path in dict.fromkeys(paths) if path in _Seen.states)


def as_now(paths: Iterable[Path]) -> tuple[WatchedFile, ...]:
    """Return files that native code is going to map, as they are now.

    Raises OSError as the system does.
    """
    guard_mapped_reads()
    return tuple(WatchedFile(path, path.stat()) for path in paths)


def check_unchanged(files: Iterable[WatchedFile]) -> None:
    """Raise InputError if one of these files was modified since, or a part of any mapped file was missing."""
    check_not_cut_off()
    for file in files:
        file.check()


@contextmanager
def unchanged(files: Sequence[WatchedFile]) -> Iterator[None]:
    """Raise InputError at the beginning or the end of the block if files changed."""
    check_unchanged(files)
    try:
        yield
    except OSError:
        # Where a part of a map is missing, the system does not copy it: EFAULT.
        check_unchanged(files)
        raise
    check_unchanged(files)


def check_not_cut_off() -> None:
    """Raise InputError, once, if a part of a mapped file was missing when it was read."""
    missing, _Seen.cut_off = _Seen.cut_off, ()
    if missing:
        raise InputError(_cut_off(missing[0]))


@cache
def guard_mapped_reads() -> None:
    """Handle SIGBUS from now on; on 64-bit Linux only."""
    if sys.platform == "linux" and ctypes.sizeof(ctypes.c_void_p) == 8:
        _Guard().install()


def _cut_off(name: str) -> str:
    return f"{name} was cut off while it was read; nothing made of it is kept: download or copy it again"


class _SigAction(ctypes.Structure):
    """`struct sigaction`, as the C library takes it."""

    _fields_ = [
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_uint8 * 128),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    ]


class _Guard:
    """The handler of SIGBUS. It is Python, which any thread may run: a fault within a read leaves nothing half done."""

    def __init__(self) -> None:
        self._library: Any = ctypes.CDLL(None, use_errno=True)
        pointer, size, integer = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
        self._library.mmap.restype = pointer
        self._library.mmap.argtypes = (pointer, size, integer, integer, integer, ctypes.c_int64)
        self._library.sigaction.argtypes = (integer, pointer, pointer)
        self._before = _SigAction()
        # Kept for as long as the process lives, because the system has its address.
        self._callback = ctypes.CFUNCTYPE(None, integer, pointer, pointer)(self._receive)
        self._filled: tuple[tuple[int, int], ...] = ()
        self._action = _SigAction(ctypes.cast(self._callback, pointer), flags=_SA_SIGINFO)

    def install(self) -> None:
        """Take the place of the handler that is there."""
        self._library.sigaction(signal.SIGBUS, ctypes.byref(self._action), ctypes.byref(self._before))
        _GUARDS.append(self)

    def _receive(self, _number: int, information: int, _context: int) -> None:
        try:
            address = ctypes.c_uint64.from_address(information + _ADDRESS_AT).value
            mapping = _mapping_at(address)
            if mapping is not None:
                end, name = mapping
                if name:
                    self._fill(address // _PAGE * _PAGE, end)
                    _Seen.cut_off += (name,)
                    return
                if any(first <= address < last for first, last in self._filled):
                    # Two threads read the same missing part, and the other one's signal came first.
                    return
        except BaseException:
            pass
        # No file of ours, or no way to help: the instruction is run again, and ends the process as it did before.
        self._library.sigaction(signal.SIGBUS, ctypes.byref(self._before), None)

    def _fill(self, start: int, end: int) -> None:
        """Put zeros in the place of a range of pages.

        Raises OSError if the system does not.
        """
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _FIXED
        # Before the call, during which another thread may run this handler.
        self._filled += ((start, end),)
        if self._library.mmap(start, end - start, mmap.PROT_READ, flags, -1, 0) != start:
            self._filled = self._filled[:-1]
            raise OSError(ctypes.get_errno(), "no pages")


_GUARDS: list[_Guard] = []


def _mapping_at(address: int) -> tuple[int, str] | None:
    """Return where the mapping ends that holds an address, and the name of the file that is mapped to be read.

    The name is empty where no file is mapped. None for any other address.
    """
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:  # noqa: PTH123
        for line in maps:
            place, rights, _, _, _, *name = line.rstrip("\n").split(maxsplit=5)
            start, _, end = place.partition("-")
            if int(start, 16) <= address < int(end, 16):
                if not name:
                    return int(end, 16), ""
                return (int(end, 16), name[0]) if rights == _SHARED_AND_READ_ONLY else None
    return None
