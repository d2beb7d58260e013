"""The child process of `cpu_trial`: a product of every tensor type, each named on stdout before it is computed.

A line is the buffer type that the weights lie in, their type and the number of rows that they are multiplied with.
Plain weights come first, then those in the layouts of the CPU's own kernels, so the last line tells what still works.
"""

import ctypes
import os
from collections.abc import Iterator
from functools import cache
from typing import Any

from toolkit.errors import ToolkitError
from toolkit.gguf.ggml_types import F32, FLOAT_TYPES, TYPES, TensorType
from toolkit.llama.ggml_devices import DeviceKind, GgmlDevice, extra_buffer_types, untried_devices
from toolkit.llama.native import INT, INT64, POINTER, SIZE, TEXT, declared

ROW_LENGTH, N_WEIGHT_ROWS = 512, 64
"""whole blocks and tiles of every type"""
N_ROWS = (1, 4, 64)
"""a token, a few and a prompt's batch take kernels of their own"""
N_THREADS = 2
_CONTEXT_BYTES = 1 << 20


class _ContextParameters(ctypes.Structure):
    """`ggml_init_params`."""

    _fields_ = [("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool)]


def main() -> None:
    """Compute every product; the process ends with it."""
    try:
        for line in products():
            os.write(1, f"{line}\n".encode())
    except ToolkitError as error:
        os.write(2, f"{error}\n".encode())
        os._exit(error.exit_code)
    os._exit(0)


def products() -> Iterator[str]:
    """Compute a product after each yielded line, which names it."""
    cpu = next(device for device in untried_devices() if device.kind == DeviceKind.CPU)
    backend = _backend(cpu)
    plain = _base().ggml_backend_dev_buffer_type(cpu.pointer)
    for buffer_type in (plain, *extra_buffer_types(cpu)):
        name = _base().ggml_backend_buft_name(buffer_type).decode()
        for type_ in TYPES.values():
            for n_rows in N_ROWS if type_.quantized or type_ in FLOAT_TYPES else ():
                with_product = _Product(buffer_type, plain, type_, n_rows)
                if with_product.runs_on(cpu):
                    yield f"{name} {type_.name} {n_rows}"
                    with_product.compute(backend)
                with_product.free()


def _backend(cpu: GgmlDevice) -> int:
    """Return the CPU as a place to compute, with its threads."""
    backend: int = _base().ggml_backend_dev_init(cpu.pointer, None)
    registry = _base().ggml_backend_dev_backend_reg(cpu.pointer)
    address = _base().ggml_backend_reg_get_proc_address(registry, b"ggml_backend_set_n_threads")
    ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int)(address)(backend, N_THREADS)
    return backend


class _Product:
    """Weights of zeros in one buffer, times rows of zeros in the plain one."""

    def __init__(self, weights_in: int, plain: int, type_: TensorType, n_rows: int) -> None:
        self._context = _base().ggml_init(_ContextParameters(_CONTEXT_BYTES, None, True))
        self._weights = self._tensor(type_, N_WEIGHT_ROWS)
        self._rows = self._tensor(F32, n_rows)
        self._product = _base().ggml_mul_mat(self._context, self._weights, self._rows)
        places = ((self._weights, weights_in), (self._rows, plain), (self._product, plain))
        self._buffers = [_allocate(tensor, buffer_type) for tensor, buffer_type in places]
        self._type, self._n_rows = type_, n_rows

    def _tensor(self, type_: TensorType, n_rows: int) -> int:
        return int(_base().ggml_new_tensor_2d(self._context, type_.ggml_id, ROW_LENGTH, n_rows))

    def runs_on(self, device: GgmlDevice) -> bool:
        """Tell whether the device multiplies weights that lie there, as llama.cpp asks before it puts any there."""
        return bool(_base().ggml_backend_dev_supports_op(device.pointer, self._product))

    def compute(self, backend: int) -> None:
        """Fill the tensors, which repacks weights where their buffer wants that, and multiply."""
        for tensor, type_, n_rows in (
            (self._weights, self._type, N_WEIGHT_ROWS),
            (self._rows, F32, self._n_rows),
        ):
            zeros = bytes(type_.tensor_bytes((n_rows, ROW_LENGTH)))
            _base().ggml_backend_tensor_set(tensor, zeros, 0, len(zeros))
        graph = _base().ggml_new_graph(self._context)
        _base().ggml_build_forward_expand(graph, self._product)
        _base().ggml_backend_graph_compute(backend, graph)

    def free(self) -> None:
        for buffer in self._buffers:
            _base().ggml_backend_buffer_free(buffer)
        _base().ggml_free(self._context)


def _allocate(tensor: int, buffer_type: int) -> int:
    """Return a buffer that holds the tensor."""
    size = _base().ggml_backend_buft_get_alloc_size(buffer_type, tensor)
    buffer: int = _base().ggml_backend_buft_alloc_buffer(buffer_type, size)
    _base().ggml_backend_tensor_alloc(buffer, tensor, _base().ggml_backend_buffer_get_base(buffer))
    return buffer


@cache
def _base() -> Any:
    return declared(
        "ggml-base",
        {
            "ggml_init": (POINTER, (_ContextParameters,)),
            "ggml_free": (None, (POINTER,)),
            "ggml_new_tensor_2d": (POINTER, (POINTER, INT, INT64, INT64)),
            "ggml_mul_mat": (POINTER, (POINTER, POINTER, POINTER)),
            "ggml_new_graph": (POINTER, (POINTER,)),
            "ggml_build_forward_expand": (None, (POINTER, POINTER)),
            "ggml_backend_dev_init": (POINTER, (POINTER, TEXT)),
            "ggml_backend_dev_buffer_type": (POINTER, (POINTER,)),
            "ggml_backend_dev_backend_reg": (POINTER, (POINTER,)),
            "ggml_backend_dev_supports_op": (ctypes.c_bool, (POINTER, POINTER)),
            "ggml_backend_reg_get_proc_address": (POINTER, (POINTER, TEXT)),
            "ggml_backend_buft_name": (TEXT, (POINTER,)),
            "ggml_backend_buft_get_alloc_size": (SIZE, (POINTER, POINTER)),
            "ggml_backend_buft_alloc_buffer": (POINTER, (POINTER, SIZE)),
            "ggml_backend_buffer_get_base": (POINTER, (POINTER,)),
            "ggml_backend_buffer_free": (None, (POINTER,)),
            "ggml_backend_tensor_alloc": (INT, (POINTER, POINTER, POINTER)),
            "ggml_backend_tensor_set": (None, (POINTER, TEXT, SIZE, SIZE)),
            "ggml_backend_graph_compute": (INT, (POINTER, POINTER)),
        },
    )


if __name__ == "__main__":
    main()
