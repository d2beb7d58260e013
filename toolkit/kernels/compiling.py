"""What all kernels share: how they are compiled, and rounding as ggml does it."""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numba
import numpy
from numpy.typing import NDArray

from toolkit.machine.disk_cache import cache_folder

Floats = NDArray[numpy.float32]
Bytes = NDArray[numpy.uint8]
Function = TypeVar("Function", bound=Callable[..., Any])

LANES = 128
"""sub-blocks side by side: they fill vectors, and stay in the second level of cache"""
UNROLL = 8
"""weights of a lane taken in one go, with its sums in registers; it divides every sub-block"""
MAGIC = numpy.float32(12582912.0)
"""1.5 * 2^23: a float32 that this is added to has no bits left for a fraction"""
LARGEST_ROUNDED = numpy.float32(4194303.0)
"""up to which `nearest` rounds as `nearest_int` does, in the fewest steps"""
ZERO, ONE = numpy.float32(0.0), numpy.float32(1.0)


def compiled(function: Function) -> Function:
    """Compile to machine code that is kept on disk and runs without Python's lock; rounding is left as it is written.

    Raises RuntimeError if there is no folder to keep it in.
    """
    with _kept_in(_machine_code_folder()):
        result: Function = numba.njit(nogil=True, cache=True, error_model="numpy")(function)
    return result


def reordered(function: Function) -> Function:
    """Compile likewise, but let sums be added up in the order that fills vectors: where the result need not be ggml's bytes."""
    options = {"nogil": True, "cache": True, "error_model": "numpy", "fastmath": {"reassoc", "contract", "nsz"}}
    with _kept_in(_machine_code_folder()):
        result: Function = numba.njit(**options)(function)
    return result


def inlined(function: Function) -> Function:
    """Make a function part of the compiled ones that call it."""
    result: Function = numba.njit(inline="always", error_model="numpy")(function)
    return result


@cache
def _machine_code_folder() -> Path:
    """Return the folder of the machine code of exactly these sources.

    numba compares the file of the compiled function alone, and what is inlined there comes from others.
    """
    sources = Path(__file__).parent
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(sources.glob("*.py")))).hexdigest()[:16]
    for root in filter(None, (numba.config.CACHE_DIR, sources / "__pycache__", cache_folder())):
        folder = Path(root) / f"kernels-{digest}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    raise RuntimeError("no folder to keep machine code in")


@contextmanager
def _kept_in(folder: Path) -> Iterator[None]:
    """Have numba keep in a folder what is declared within the block."""
    users, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(folder)
    try:
        yield
    finally:
        numba.config.CACHE_DIR = users


@inlined
def nearest(value: numpy.float32, lowest: numpy.float32, highest: numpy.float32) -> numpy.float32:
    """Return the nearest whole number within bounds, halves to even, for values up to LARGEST_ROUNDED."""
    rounded = (value + MAGIC) - MAGIC
    rounded = highest if rounded > highest else rounded
    return lowest if rounded < lowest else rounded


@compiled
def load_lanes(x: Floats, start: int, lanes: Floats) -> int:
    """Put rows of x [n, length] from `start` on into the columns of lanes [length, LANES]; return how many there were.

    Where they end, the last one fills the rest.
    """
    count = min(LANES, len(x) - start)
    for k in range(LANES):
        row = start + min(k, count - 1)
        for i in range(x.shape[1]):
            lanes[i, k] = x[row, i]
    return count


@inlined
def nearest_int(value: numpy.float32) -> numpy.int32:
    """Return what `nearest_int` of ggml makes of a number, whatever its size."""
    return (numpy.float32(value + MAGIC).view(numpy.int32) & numpy.int32(0x007FFFFF)) - numpy.int32(0x00400000)
