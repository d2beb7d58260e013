"""What all kernels share: how they are compiled, and rounding as ggml does it."""

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy
from numpy.typing import NDArray

Floats = NDArray[numpy.float32]
Bytes = NDArray[numpy.uint8]
Function = TypeVar("Function", bound=Callable[..., Any])

LANES = 128
"""sub-blocks side by side: they fill vectors, and stay in the second level of cache"""
UNROLL = 8
"""weights of a lane taken in one go, with its sums in registers; it divides every sub-block"""
MAGIC = numpy.float32(12582912.0)
"""1.5 * 2^23: a float32 that this is added to has no places left behind the point"""
LARGEST_ROUNDED = numpy.float32(4194303.0)
"""up to which `nearest` rounds as `nearest_int` does, in the fewest steps"""
ZERO, ONE = numpy.float32(0.0), numpy.float32(1.0)


def compiled(function: Function) -> Function:
    """Compile to machine code that is kept on disk and runs without Python's lock; rounding is left as it is written."""
    result: Function = numba.njit(nogil=True, cache=True, error_model="numpy")(function)
    return result


def inlined(function: Function) -> Function:
    """Make a function part of the compiled ones that call it."""
    result: Function = numba.njit(inline="always", error_model="numpy")(function)
    return result


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
