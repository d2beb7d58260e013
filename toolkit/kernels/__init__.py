"""Quantization to slow types several times faster, with the bytes of ggml's own functions: sub-blocks lie in vector lanes.

ggml searches the scale of one sub-block after the other, adding in an order that its compiler may not change. Here every
lane keeps that order for a sub-block of its own. Who uses a kernel compares it with ggml first (`llama.quantizer`): where
a build of ggml rounds otherwise, because its compiler fused products and sums, ggml's own function is used.
"""

from collections.abc import Callable
from importlib import import_module

import numpy
from numpy.typing import NDArray

from toolkit.gguf.ggml_types import TensorType

Floats = NDArray[numpy.float32]
Kernel = Callable[[Floats, Floats | None], NDArray[numpy.uint8] | None]
"""float32 [n, row length], and the importance of columns [row length] or None, to uint8 [n, row bytes]

None for rows whose bytes it cannot promise to be ggml's."""
LEAST_IMPORTANCE, LARGEST = numpy.float32(0.0), numpy.float32(16384.0)
"""Beyond, sums of squares of squares may leave float32, where the kernels do not follow ggml."""

_MODULES = {"Q4_K": "affine", "Q5_K": "affine", "Q6_K": "symmetric", "IQ4_NL": "codebook", "IQ4_XS": "codebook"}
_WORTH_IT = {"affine": 1 << 27, "symmetric": 1 << 27, "codebook": 1 << 24}
"""weights, for which ggml takes five to ten seconds of a core; the first compilation of a module takes as long"""


def worth_loading(type_: TensorType, n_weights: int) -> bool:
    """Tell whether there is a kernel for a type, and so many weights to quantize that it saves time."""
    module = _MODULES.get(type_.name)
    return module is not None and n_weights >= _WORTH_IT[module]


def load_kernel(type_: TensorType) -> Kernel | None:
    """Return the kernel that quantizes to a type, None if there is none here; its first call compiles it, once for all runs."""
    if type_.name not in _MODULES:
        return None
    try:
        module = import_module(f"toolkit.kernels.{_MODULES[type_.name]}")
    except (ImportError, RuntimeError):
        # numba is not there for this Python, or finds no folder to keep compiled code in.
        return None
    kernel: Kernel = module.kernel(type_)

    def quantize(values: Floats, importance: Floats | None = None) -> NDArray[numpy.uint8] | None:
        if not _lie_within(values, -LARGEST) or not (importance is None or _lie_within(importance, LEAST_IMPORTANCE)):
            return None
        return kernel(_writeable(values), None if importance is None else _writeable(importance))

    return quantize


def _writeable(values: Floats) -> Floats:
    """Return a copy of rows in a memory map: for an array that cannot be written numba would compile everything once more."""
    return values if values.flags.writeable else values.copy()


def _lie_within(values: Floats, least: numpy.float32) -> bool:
    # NaN is neither above nor below.
    return bool(values.max(initial=least) <= LARGEST) and bool(values.min(initial=least) >= least)
