"""A look at ggml's tensors while a graph is computed: what an operation multiplies, and the numbers in it.

Source: `struct ggml_tensor` in ggml/include/ggml.h of llama.cpp (commit 0c1e570).
"""

import ctypes
from functools import cache
from typing import Any

import numpy
from numpy.typing import NDArray

from toolkit.errors import EnvironmentFaultError
from toolkit.gguf.ggml_types import TensorType
from toolkit.llama.native import INT, POINTER, SIZE, TEXT, declared

_OBJECT_BYTES = 32
_MOST_OPS = 128


class GgmlTensor(ctypes.Structure):
    """`ggml_tensor`; `ne` are lengths with the row first, `nb` strides in bytes."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("buffer", ctypes.c_void_p),
        ("ne", ctypes.c_int64 * 4),
        ("nb", ctypes.c_size_t * 4),
        ("op", ctypes.c_int),
        ("op_params", ctypes.c_int32 * 16),
        ("flags", ctypes.c_int32),
        ("src", ctypes.c_void_p * 10),
        ("view_src", ctypes.c_void_p),
        ("view_offs", ctypes.c_size_t),
        ("data", ctypes.c_void_p),
        ("name", ctypes.c_char * 64),
        ("extra", ctypes.c_void_p),
        ("padding", ctypes.c_char * 8),
    ]


@cache
def _library() -> Any:
    """Return libggml-base, after a check that its tensors have the layout above.

    Raises EnvironmentFaultError if they do not.
    """
    library = declared(
        "ggml-base",
        {
            "ggml_tensor_overhead": (SIZE, ()),
            "ggml_op_name": (TEXT, (INT,)),
            "ggml_nbytes": (SIZE, (POINTER,)),
            "ggml_backend_buffer_is_host": (ctypes.c_bool, (POINTER,)),
            "ggml_backend_tensor_get": (None, (POINTER, POINTER, SIZE, SIZE)),
            "ggml_backend_tensor_set": (None, (POINTER, POINTER, SIZE, SIZE)),
        },
    )
    found = library.ggml_tensor_overhead() - _OBJECT_BYTES
    if found != ctypes.sizeof(GgmlTensor):
        raise EnvironmentFaultError(
            f"this llama-cpp-python has tensors of {found} bytes, {ctypes.sizeof(GgmlTensor)} were expected; "
            "their numbers cannot be read, so take llama-cpp-python 0.3.36"
        )
    return library


@cache
def operation_number(name: str) -> int:
    """Return the number of an operation in the library that is loaded.

    Raises EnvironmentFaultError if there is none of that name.
    """
    for number in range(_MOST_OPS):
        if _library().ggml_op_name(number) == name.encode():
            return number
    raise EnvironmentFaultError(f"this llama-cpp-python has no operation {name}")


def shaped_tensor(type_: TensorType, shape: tuple[int, ...]) -> GgmlTensor:
    """Return a tensor without data, shape with the row length last: enough to ask how much room one takes."""
    _library()
    lengths = [*reversed(shape), 1, 1, 1][:4]
    strides = [type_.block_bytes, type_.row_bytes(lengths[0])]
    strides += [strides[1] * lengths[1], strides[1] * lengths[1] * lengths[2]]
    return GgmlTensor(type=type_.ggml_id, ne=(ctypes.c_int64 * 4)(*lengths), nb=(ctypes.c_size_t * 4)(*strides))


def tensor_at(pointer: int) -> GgmlTensor:
    """Return the tensor at an address, valid as long as ggml keeps it."""
    return GgmlTensor.from_address(pointer)


def read_values(pointer: int, dtype: type[Any]) -> NDArray[Any]:
    """Return a tensor's numbers, shape [ne3, ne2, ne1, ne0]: a view where they lie in the host's memory, else a copy."""
    tensor, n_bytes = tensor_at(pointer), _library().ggml_nbytes(pointer)
    if _library().ggml_backend_buffer_is_host(tensor.buffer):
        stored = numpy.ctypeslib.as_array((ctypes.c_uint8 * n_bytes).from_address(tensor.data))
    else:
        stored = numpy.empty(n_bytes, numpy.uint8)
        _library().ggml_backend_tensor_get(pointer, stored.ctypes.data, 0, n_bytes)
    return numpy.ndarray(tuple(tensor.ne)[::-1], dtype, stored.data, strides=tuple(tensor.nb)[::-1])


def write_bytes(pointer: int, data: NDArray[numpy.uint8]) -> None:
    """Replace what a tensor holds: all of its bytes, in its type.

    Raises ValueError if they are not as many as it has.
    """
    if data.nbytes != _library().ggml_nbytes(pointer):
        raise ValueError(f"{data.nbytes} bytes for a tensor of {_library().ggml_nbytes(pointer)}")
    stored = numpy.ascontiguousarray(data)
    _library().ggml_backend_tensor_set(pointer, stored.ctypes.data, 0, stored.nbytes)
