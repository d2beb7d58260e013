"""The devices that ggml knows, and the buffer types that each of them can hold tensors in."""

import ctypes
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Any

from toolkit.errors import InputError
from toolkit.gguf.format import aligned
from toolkit.gguf.ggml_types import TensorType
from toolkit.llama.cpu_trial import refuse_broken_build
from toolkit.llama.ggml_tensor import shaped_tensor
from toolkit.llama.native import INT, POINTER, SIZE, TEXT, declared, llama_cpp


class DeviceKind(IntEnum):
    """`ggml_backend_dev_type`."""

    CPU = 0
    GPU = 1
    INTEGRATED_GPU = 2
    ACCELERATOR = 3


@dataclass(frozen=True)
class GgmlDevice:
    """A device as ggml reports it; `pointer` is its ggml_backend_dev_t."""

    pointer: int
    name: str
    description: str
    kind: int

    @property
    def offloads(self) -> bool:
        """Tell whether layers can be offloaded to it."""
        return self.kind in (DeviceKind.GPU, DeviceKind.INTEGRATED_GPU)


@dataclass(frozen=True)
class BufferType:
    """A kind of memory: its name, its device, and whether that memory is the host's."""

    name: str
    device: str
    on_host: bool


@cache
def start_backends() -> None:
    """Initialise llama.cpp once; before that, ggml lists no devices.

    Raises EnvironmentFaultError where this build does not compute on this processor.
    """
    refuse_broken_build()
    _initialise()


def list_ggml_devices() -> tuple[GgmlDevice, ...]:
    """Return every registered device, the CPU and remote ones included."""
    start_backends()
    return untried_devices()


def untried_devices() -> tuple[GgmlDevice, ...]:
    """Return the same, without asking whether this build computes on this processor."""
    _initialise()
    ggml = _registry()
    return tuple(describe_device(ggml.ggml_backend_dev_get(index)) for index in range(ggml.ggml_backend_dev_count()))


def offload_devices() -> tuple[GgmlDevice, ...]:
    """Return this machine's own devices that layers can be offloaded to."""
    return tuple(device for device in list_ggml_devices() if device.offloads and not device.name.startswith("RPC"))


@cache
def _initialise() -> None:
    llama_cpp().llama_backend_init()


def describe_device(pointer: int) -> GgmlDevice:
    """Return what ggml says about the device at `pointer`."""
    base = _base()
    return GgmlDevice(
        pointer,
        base.ggml_backend_dev_name(pointer).decode(),
        base.ggml_backend_dev_description(pointer).decode("utf-8", "replace"),
        base.ggml_backend_dev_type(pointer),
    )


def memory_of(device: GgmlDevice) -> tuple[int, int]:
    """Return how much of a device's memory is free now, and all of it; 0 where its backend does not tell."""
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    _base().ggml_backend_dev_memory(device.pointer, ctypes.byref(free), ctypes.byref(total))
    return free.value, total.value


def free_bytes(device: GgmlDevice) -> int:
    """Return how much of a device's memory is free now, 0 where its backend does not tell."""
    return memory_of(device)[0]


def known_buffer_types() -> dict[int, BufferType]:
    """Return the buffer types of all devices by their ggml_backend_buffer_type_t."""
    found: dict[int, BufferType] = {}
    for device in list_ggml_devices():
        for pointer in _buffer_types(device):
            found.setdefault(pointer, _describe_buffer_type(pointer, device))
    return found


def buffer_type_pointer(name: str) -> int:
    """Return the ggml_backend_buffer_type_t that a device allocates in by default, by its name (`CPU`, `CUDA0`).

    Raises InputError if there is none of that name; the message lists those there are.
    """
    base = _base()
    pointers = [base.ggml_backend_dev_buffer_type(device.pointer) for device in list_ggml_devices()]
    named = {base.ggml_backend_buft_name(pointer).decode(): int(pointer) for pointer in reversed(pointers) if pointer}
    if name not in named:
        raise InputError(f"there is no buffer type {name!r} here; there are {', '.join(sorted(named))}")
    return named[name]


def allocated_bytes(buffer_type: str, type_: TensorType, shape: tuple[int, ...]) -> int:
    """Return what a tensor takes in a buffer of that type, with the room that aligns the next one.

    Raises InputError if there is no such buffer type.
    """
    base = _base()
    pointer = next((pointer for pointer, kind in known_buffer_types().items() if kind.name == buffer_type), None)
    if pointer is None:
        raise InputError(f"there is no buffer type {buffer_type!r} here")
    size = base.ggml_backend_buft_get_alloc_size(pointer, ctypes.byref(shaped_tensor(type_, shape)))
    alignment = base.ggml_backend_buft_get_alignment(pointer)
    return aligned(int(size), int(alignment))


def _describe_buffer_type(pointer: int, device: GgmlDevice) -> BufferType:
    base = _base()
    # CPU_REPACK does not call itself host memory, because its layout is private; it lies there all the same.
    on_host = device.kind == DeviceKind.CPU or bool(base.ggml_backend_buft_is_host(pointer))
    return BufferType(base.ggml_backend_buft_name(pointer).decode(), "CPU" if on_host else device.name, on_host)


def _buffer_types(device: GgmlDevice) -> list[int]:
    base = _base()
    own = [base.ggml_backend_dev_buffer_type(device.pointer), base.ggml_backend_dev_host_buffer_type(device.pointer)]
    mapped = [_mapped_buffer_type()] if device.kind == DeviceKind.CPU else []
    return [pointer for pointer in own if pointer] + mapped + extra_buffer_types(device)


@cache
def _mapped_buffer_type() -> int:
    """Return the type of buffers over memory that somebody else owns, which a mapped file is."""
    base, alignment = _base(), 64
    memory = ctypes.create_string_buffer(2 * alignment)
    buffer = base.ggml_backend_cpu_buffer_from_ptr(aligned(ctypes.addressof(memory), alignment), alignment)
    pointer = int(base.ggml_backend_buffer_get_type(buffer))
    base.ggml_backend_buffer_free(buffer)
    return pointer


def extra_buffer_types(device: GgmlDevice) -> list[int]:
    """Return the buffer types of a device in which weights lie as its own kernels want them (`AMX`, `CPU_REPACK`)."""
    base = _base()
    registry = base.ggml_backend_dev_backend_reg(device.pointer)
    address = base.ggml_backend_reg_get_proc_address(registry, b"ggml_backend_dev_get_extra_bufts")
    if not address:
        return []
    function = ctypes.CFUNCTYPE(ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p)(address)
    listed = function(device.pointer)
    pointers: list[int] = []
    while listed and (pointer := listed[len(pointers)]):
        pointers.append(pointer)
    return pointers


@cache
def _registry() -> Any:
    return declared("ggml", {"ggml_backend_dev_count": (SIZE, ()), "ggml_backend_dev_get": (POINTER, (SIZE,))})


@cache
def _base() -> Any:
    return declared(
        "ggml-base",
        {
            "ggml_backend_dev_name": (TEXT, (POINTER,)),
            "ggml_backend_dev_description": (TEXT, (POINTER,)),
            "ggml_backend_dev_type": (INT, (POINTER,)),
            "ggml_backend_dev_memory": (None, (POINTER, POINTER, POINTER)),
            "ggml_backend_dev_buffer_type": (POINTER, (POINTER,)),
            "ggml_backend_dev_host_buffer_type": (POINTER, (POINTER,)),
            "ggml_backend_dev_backend_reg": (POINTER, (POINTER,)),
            "ggml_backend_reg_get_proc_address": (POINTER, (POINTER, TEXT)),
            "ggml_backend_cpu_buffer_from_ptr": (POINTER, (POINTER, SIZE)),
            "ggml_backend_buffer_get_type": (POINTER, (POINTER,)),
            "ggml_backend_buffer_free": (None, (POINTER,)),
            "ggml_backend_buft_name": (TEXT, (POINTER,)),
            "ggml_backend_buft_is_host": (ctypes.c_bool, (POINTER,)),
            "ggml_backend_buft_get_alignment": (SIZE, (POINTER,)),
            "ggml_backend_buft_get_alloc_size": (SIZE, (POINTER, POINTER)),
        },
    )
