"""The parameters that llama.cpp takes of a model and its context, from settings: the same for a question as for a run."""

import ctypes
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from toolkit.errors import DoesNotFitError, GgufError, ToolkitError
from toolkit.gguf.ggml_types import tensor_type
from toolkit.gguf.reader import file_to_load
from toolkit.llama.callbacks import Callback, native_code
from toolkit.llama.cpu_trial import cpu_trial
from toolkit.llama.ggml_devices import buffer_type_pointer, start_backends
from toolkit.llama.load_settings import LoadSettings, TensorOverride
from toolkit.llama.log import llama_log
from toolkit.llama.native import llama_cpp

LOAD_INTO_BUFFERS, MAP_FILE = 0, 1
_FLASH_ATTENTION = {"auto": -1, "off": 0, "on": 1}
_OUT_OF_MEMORY = ("to allocate", "bad_alloc")


class _OverrideEntry(ctypes.Structure):
    """`llama_model_tensor_buft_override`; a list of them ends with an empty one."""

    _fields_ = [("pattern", ctypes.c_char_p), ("buffer_type", ctypes.c_void_p)]


class ModelParameters:
    """`llama_model_params`, and what they point to: llama.cpp borrows it for as long as the model lives."""

    def __init__(self, settings: LoadSettings, devices: Sequence[int] | None) -> None:
        """Fill the structure; `devices` are ggml_backend_dev_t pointers, None for all there are."""
        self._borrowed: list[Any] = []
        self.structure = llama_cpp().llama_model_default_params()
        self.structure.n_gpu_layers = settings.n_gpu_layers
        self.structure.use_extra_bufts = cpu_trial().extra_buffers
        if devices is not None:
            self.structure.devices = self._borrow((ctypes.c_void_p * (len(devices) + 1))(*devices, None))
        if settings.tensor_overrides:
            self.structure.tensor_buft_overrides = self._borrow(_entries(settings.tensor_overrides))
        if settings.tensor_split:
            shares = (ctypes.c_float * llama_cpp().llama_max_devices())(*settings.tensor_split)
            self._borrowed.append(shares)
            self.structure.tensor_split = shares

    def _borrow(self, array: Any) -> Any:
        self._borrowed.append(array)
        return ctypes.cast(array, ctypes.c_void_p)


def context_parameters(settings: LoadSettings) -> Any:
    """Return `llama_context_params`."""
    parameters = llama_cpp().llama_context_default_params()
    parameters.n_ctx, parameters.n_seq_max = settings.n_ctx, settings.n_parallel
    parameters.n_batch, parameters.n_ubatch = settings.n_batch, settings.n_ubatch
    parameters.kv_unified, parameters.swa_full = settings.kv_unified, settings.swa_full
    parameters.type_k = tensor_type(settings.kv_types.k).ggml_id
    parameters.type_v = tensor_type(settings.kv_types.v).ggml_id
    parameters.flash_attn_type = _FLASH_ATTENTION[settings.flash_attention]
    return parameters


def load_model(path: Path, parameters: Any) -> Any:
    """Return a llama_model pointer for a GGUF file, any of a split set, or a directory of one model.

    Raises GgufError if llama.cpp refuses the file, DoesNotFitError if memory does not suffice.
    """
    start_backends()
    llama_log().begin()
    parameters.progress_callback = _unless_interrupted().pointer
    model: Any = None
    try:
        with native_code():
            model = llama_cpp().llama_model_load_from_file(os.fsencode(file_to_load(path)), parameters)
    except BaseException:
        if model:
            llama_cpp().llama_model_free(model)
        raise
    if not model:
        raise refusal_of(path)
    return model


@cache
def _unless_interrupted() -> Callback:
    """Return what llama.cpp asks for every tensor that it loads: whether to go on."""
    return Callback(llama_cpp().llama_progress_callback, lambda *_: True, lambda *_: False)


def refusal_of(path: Path) -> ToolkitError:
    """Return the error for a model that did not load, by the reason that llama.cpp logged."""
    reason = llama_log().reason()
    if any(mark in reason for mark in _OUT_OF_MEMORY):
        return DoesNotFitError(f"{path}: llama.cpp could not allocate memory for it: {reason}")
    return GgufError(f"{path}: llama.cpp refuses to load it: {reason}")


def _entries(overrides: Sequence[TensorOverride]) -> Any:
    entries = [_OverrideEntry(each.pattern.encode(), buffer_type_pointer(each.buffer_type)) for each in overrides]
    return (_OverrideEntry * (len(entries) + 1))(*entries)
