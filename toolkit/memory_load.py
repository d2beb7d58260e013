"""Load a model for no other purpose than to see what it takes, with every setting that memory depends on."""

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from toolkit.device_choice import choose_devices
from toolkit.ggml_devices import GgmlDevice, start_backends
from toolkit.llama_log import llama_log
from toolkit.llama_parameters import LOAD_INTO_BUFFERS, ModelParameters, context_parameters, refusal_of
from toolkit.memory import BufferBytes, Footprint, MemorySettings, by_device
from toolkit.memory_breakdown import read_memory_breakdown
from toolkit.memory_skeleton import Skeleton
from toolkit.native import llama_cpp


class LoadedModel:
    """A model in llama.cpp, on which contexts are made one at a time; use it in a `with` statement, which frees it."""

    def __init__(
        self, path: Path, settings: MemorySettings, devices: Sequence[GgmlDevice], *, allocate: bool = False
    ) -> None:
        """Load the model; without `allocate` no weight is read and no memory taken.

        Raises GgufError if llama.cpp refuses the file, DoesNotFitError if memory does not suffice.
        """
        self._path = path
        self._library = llama_cpp()
        start_backends()
        llama_log().clear()
        self._parameters = ModelParameters(settings, [device.pointer for device in devices])
        parameters = self._parameters.structure
        # Simulated allocation needs buffers, as a device has them: a mapped file would not be counted.
        parameters.load_mode, parameters.no_alloc = LOAD_INTO_BUFFERS, not allocate
        self._model: Any = self._library.llama_model_load_from_file(os.fsencode(path), parameters)
        if not self._model:
            raise refusal_of(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def memory_buffers(self, settings: MemorySettings) -> tuple[BufferBytes, ...]:
        """Return what the model takes with a context of these settings, by buffer type; the context is freed again.

        Raises GgufError if llama.cpp refuses the settings, DoesNotFitError if memory does not suffice,
        EnvironmentFaultError if this build of llama.cpp does not tell.
        """
        llama_log().clear()
        context = self._library.llama_init_from_model(self._model, context_parameters(settings))
        if not context:
            raise refusal_of(self._path)
        try:
            return read_memory_breakdown(context)
        finally:
            self._library.llama_free(context)

    def close(self) -> None:
        """Free the model."""
        model, self._model = self._model, None
        if model:
            self._library.llama_model_free(model)


class OwnProcess:
    """Asks llama.cpp in this process, not in a child: an RPC server serves one client, which is to be this process."""

    def ask(self, skeleton: Skeleton, settings: MemorySettings) -> Footprint:
        """Return the footprint of a model; see `LoadedModel` for what is raised."""
        devices, answered_by = choose_devices(settings)
        with LoadedModel(skeleton.path, settings, devices) as model:
            buffers = model.memory_buffers(settings)
        return by_device(buffers, answered_by, tuple(device.name for device in devices))
