"""Load a model for no other purpose than to see what it takes, with every setting that memory depends on."""

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from toolkit.errors import DoesNotFitError, GgufError, ToolkitError
from toolkit.ggml_devices import GgmlDevice, buffer_type_pointer, start_backends
from toolkit.ggml_types import tensor_type
from toolkit.llama_log import llama_log
from toolkit.memory import BufferBytes, MemorySettings, TensorOverride
from toolkit.memory_breakdown import read_memory_breakdown
from toolkit.native import llama_cpp

_FLASH_ATTENTION = {"auto": -1, "off": 0, "on": 1}
_OUT_OF_MEMORY = ("to allocate", "bad_alloc")
_LOAD_INTO_BUFFERS = 0


class _OverrideEntry(ctypes.Structure):
    """`llama_model_tensor_buft_override`; a list of them ends with an empty one."""

    _fields_ = [("pattern", ctypes.c_char_p), ("buffer_type", ctypes.c_void_p)]


class LoadedModel:
    """A model and its context in llama.cpp; use it in a `with` statement, which frees both."""

    def __init__(
        self, path: Path, settings: MemorySettings, devices: Sequence[GgmlDevice], *, allocate: bool = False
    ) -> None:
        """Load the model; without `allocate` no weight is read and no memory taken.

        Raises GgufError if llama.cpp refuses the file, DoesNotFitError if memory does not suffice.
        """
        self._path = path
        self._library = llama_cpp()
        self._model: Any = None
        self._context: Any = None
        # llama.cpp borrows what the parameters point to for as long as the model lives.
        self._borrowed: list[Any] = []
        start_backends()
        llama_log().clear()
        try:
            self._open(settings, devices, allocate=allocate)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def memory_buffers(self) -> tuple[BufferBytes, ...]:
        """Return what it takes by buffer type.

        Raises EnvironmentFaultError if this build of llama.cpp does not tell.
        """
        return read_memory_breakdown(self._context)

    def close(self) -> None:
        """Free the context and the model."""
        context, model = self._context, self._model
        self._context = self._model = None
        if context:
            self._library.llama_free(context)
        if model:
            self._library.llama_model_free(model)

    def _open(self, settings: MemorySettings, devices: Sequence[GgmlDevice], *, allocate: bool) -> None:
        parameters = self._model_parameters(settings, devices)
        parameters.no_alloc = not allocate
        self._model = self._library.llama_model_load_from_file(os.fsencode(self._path), parameters)
        if not self._model:
            raise self._refusal()
        self._context = self._library.llama_init_from_model(self._model, self._context_parameters(settings))
        if not self._context:
            raise self._refusal()

    def _model_parameters(self, settings: MemorySettings, devices: Sequence[GgmlDevice]) -> Any:
        parameters = self._library.llama_model_default_params()
        # Simulated allocation needs buffers, as a device has them: a mapped file would not be counted.
        parameters.load_mode = _LOAD_INTO_BUFFERS
        parameters.n_gpu_layers = settings.n_gpu_layers
        pointers = (ctypes.c_void_p * (len(devices) + 1))(*[device.pointer for device in devices], None)
        parameters.devices = self._borrow(pointers)
        if settings.tensor_overrides:
            parameters.tensor_buft_overrides = self._borrow(_entries(settings.tensor_overrides))
        if settings.tensor_split:
            shares = (ctypes.c_float * self._library.llama_max_devices())(*settings.tensor_split)
            self._borrow(shares)
            parameters.tensor_split = shares
        return parameters

    def _borrow(self, array: Any) -> Any:
        self._borrowed.append(array)
        return ctypes.cast(array, ctypes.c_void_p)

    def _context_parameters(self, settings: MemorySettings) -> Any:
        parameters = self._library.llama_context_default_params()
        parameters.n_ctx, parameters.n_seq_max = settings.n_ctx, settings.n_parallel
        parameters.n_batch, parameters.n_ubatch = settings.n_batch, settings.n_ubatch
        parameters.kv_unified, parameters.swa_full = settings.kv_unified, settings.swa_full
        parameters.type_k = tensor_type(settings.kv_type_k).ggml_id
        parameters.type_v = tensor_type(settings.kv_type_v).ggml_id
        parameters.flash_attn_type = _FLASH_ATTENTION[settings.flash_attention]
        return parameters

    def _refusal(self) -> ToolkitError:
        reason = llama_log().reason()
        if any(mark in reason for mark in _OUT_OF_MEMORY):
            return DoesNotFitError(f"{self._path}: llama.cpp could not allocate memory for it: {reason}")
        return GgufError(f"{self._path}: llama.cpp refuses to load it: {reason}")


def _entries(overrides: Sequence[TensorOverride]) -> Any:
    entries = [_OverrideEntry(each.pattern.encode(), buffer_type_pointer(each.buffer_type)) for each in overrides]
    return (_OverrideEntry * (len(entries) + 1))(*entries)
