"""Rows of one tensor type to rows of another, through ggml's own functions.

Every function works on a block of rows, so that any number of threads may call it.
"""

import ctypes
import math
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy
from numpy.typing import NDArray

from toolkit.errors import TensorError
from toolkit.gguf.ggml_types import BF16, F16, F32, TensorType
from toolkit.gguf.rows import Bytes
from toolkit.kernels import Kernel, load_kernel, worth_loading
from toolkit.llama import native

Floats = NDArray[numpy.float32]

SAFE_MAGNITUDE = 16384.0
"""Weights up to here fit into F16, and so do the scales of every block type"""
_SAMPLE_ROWS = 64
_kernels: dict[TensorType, Kernel | None] = {}
_BITS: dict[TensorType, numpy.dtype[Any]] = {F32: numpy.dtype("<u4"), F16: numpy.dtype("<u2"), BF16: numpy.dtype("<u2")}


class _TypeTraits(ctypes.Structure):
    """`ggml_type_traits` of ggml.h."""

    _fields_ = (
        ("type_name", ctypes.c_char_p),
        ("blck_size", ctypes.c_int64),
        ("blck_size_interleave", ctypes.c_int64),
        ("type_size", ctypes.c_size_t),
        ("is_quantized", ctypes.c_bool),
        ("to_float", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)),
    )


def convert_rows(
    rows: Bytes,
    source: TensorType,
    target: TensorType,
    importance: Floats | None = None,
    *,
    copy_equal: bool = True,
) -> Bytes:
    """Return uint8 [n, target row bytes] for uint8 [n, source row bytes].

    `importance` is float32 [row length], the weight of each column's error, or None. Equal types are copied as they are;
    without `copy_equal` they go through float32, which makes every NaN a quiet one and changes nothing else.
    """
    if source is target and copy_equal:
        return rows
    return from_float32(to_float32(rows, source), target, importance)


def to_float32(rows: Bytes, type_: TensorType) -> Floats:
    """Return float32 [n, row length] for uint8 [n, row bytes] of a float or quantized type."""
    stored = numpy.ascontiguousarray(rows)
    if type_ is F32:
        return stored.view(numpy.float32)
    count = stored.size // type_.block_bytes * type_.block_length
    values = numpy.empty(count, dtype=numpy.float32)
    _dequantizer(type_)(stored.ctypes.data, values.ctypes.data, count)
    return values.reshape(len(stored), -1)


def from_float32(values: Floats, target: TensorType, importance: Floats | None = None) -> Bytes:
    """Return uint8 [n, target row bytes] for float32 [n, row length] (`ggml_quantize_chunk` of llama.cpp)."""
    if target is F32:
        return values.view(numpy.uint8)
    weights = None if importance is None else numpy.ascontiguousarray(importance, dtype=numpy.float32)
    kernel = _kernels.get(target)
    quantized = kernel(values, weights) if kernel is not None else None
    return _through_ggml(values, target, weights) if quantized is None else quantized


def _through_ggml(values: Floats, target: TensorType, weights: Floats | None) -> Bytes:
    n_rows, row_length = values.shape
    result = numpy.empty((n_rows, target.row_bytes(row_length)), dtype=numpy.uint8)
    if target is BF16:
        native.base().ggml_fp32_to_bf16_row_ref(values.ctypes.data, result.ctypes.data, values.size)
    elif target is F16:
        native.base().ggml_fp32_to_fp16_row(values.ctypes.data, result.ctypes.data, values.size)
    else:
        native.base().ggml_quantize_chunk(
            target.ggml_id,
            values.ctypes.data,
            result.ctypes.data,
            0,
            n_rows,
            row_length,
            None if weights is None else weights.ctypes.data,
        )
    return result


def finite(rows: Bytes, type_: TensorType) -> bool:
    """Tell whether rows hold no NaN and no infinity."""
    return math.isfinite(largest_magnitude(rows, type_))


def largest_magnitude(rows: Bytes, type_: TensorType) -> float:
    """Return the largest absolute value; it is not finite if a single one is not.

    ggml's own check is not used because it prints to stderr.
    """
    bits = _BITS.get(type_)
    if bits is None:
        return float(numpy.abs(to_float32(rows, type_)).max(initial=0.0))
    # Without the sign, floats are ordered as their bits are: numbers, infinity, NaN.
    unsigned = numpy.ascontiguousarray(rows).view(bits)
    largest = (unsigned & numpy.array(numpy.iinfo(bits).max >> 1, dtype=bits)).max(initial=0)
    return float(to_float32(numpy.array([[largest]], dtype=bits).view(numpy.uint8), type_)[0, 0])


def prepare(types: set[TensorType]) -> None:
    """Build the tables that quantization to these types needs, once and before threads start."""
    for type_ in types:
        native.base().ggml_quantize_init(type_.ggml_id)


def load_compiled_kernels(n_weights: Mapping[TensorType, int]) -> None:
    """Use compiled kernels in place of ggml's for types of which enough weights are quantized to be worth loading them.

    They give the same bytes: a kernel that does not, for a sample of rows with this build of ggml, is not used. Call it
    once, before threads start.
    """
    for type_, count in n_weights.items():
        if type_ not in _kernels and worth_loading(type_, count):
            kernel = load_kernel(type_)
            _kernels[type_] = kernel if kernel is not None and _agrees(kernel, type_) else None


def _agrees(kernel: Kernel, type_: TensorType) -> bool:
    random = numpy.random.default_rng(0)
    spread = numpy.exp(random.normal(size=(_SAMPLE_ROWS, 1)))
    rows = (random.standard_normal((_SAMPLE_ROWS, 4 * type_.block_length)) * spread).astype(numpy.float32)
    importance = random.exponential(1.0, rows.shape[1:]).astype(numpy.float32)
    found = ((kernel(rows, weights), _through_ggml(rows, type_, weights)) for weights in (None, importance))
    return all(ours is not None and numpy.array_equal(ours, theirs) for ours, theirs in found)


@cache
def _dequantizer(type_: TensorType) -> Any:
    if type_ is BF16:
        return native.base().ggml_bf16_to_fp32_row
    if type_ is F16:
        return native.base().ggml_fp16_to_fp32_row
    library = native.declared("ggml-base", {"ggml_get_type_traits": (ctypes.POINTER(_TypeTraits), (native.INT,))})
    found = library.ggml_get_type_traits(type_.ggml_id).contents
    if not found.to_float:
        raise TensorError(f"tensors of type {type_.name} cannot be turned back into floats")
    return found.to_float
