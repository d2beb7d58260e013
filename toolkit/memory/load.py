"""Load a model for no other purpose than to see what it takes, with every setting that memory depends on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from toolkit.llama.device_choice import choose_devices
from toolkit.llama.footprint import BufferBytes, Footprint, by_device
from toolkit.llama.ggml_devices import GgmlDevice
from toolkit.llama.load_settings import MemorySettings
from toolkit.llama.log import llama_log
from toolkit.llama.memory_breakdown import read_memory_breakdown, tells_memory
from toolkit.llama.native import llama_cpp
from toolkit.llama.parameters import LOAD_INTO_BUFFERS, ModelParameters, context_parameters, load_model, refusal_of
from toolkit.memory.skeleton import Skeleton

if TYPE_CHECKING:
    from toolkit.memory.log import MemoryLog


@dataclass(frozen=True)
class Loading:
    """How a model is loaded, and read."""

    allocate: bool = False
    """without it no weight is read and no memory taken"""
    from_log: bool = False
    """read llama.cpp's log, as where its account of memory cannot be read"""


WITHOUT_WEIGHTS = Loading()


class LoadedModel:
    """A model in llama.cpp, on which contexts are made one at a time; use it in a `with` statement, which frees it."""

    def __init__(
        self, path: Path, settings: MemorySettings, devices: Sequence[GgmlDevice], how: Loading = WITHOUT_WEIGHTS
    ) -> None:
        """Load the model.

        Raises GgufError if llama.cpp refuses the file, DoesNotFitError if memory does not suffice.
        """
        self._path = path
        self._library = llama_cpp()
        self._parameters = ModelParameters(settings, [device.pointer for device in devices])
        parameters = self._parameters.structure
        # Simulated allocation needs buffers, as a device has them: a mapped file would not be counted.
        parameters.load_mode, parameters.no_alloc = LOAD_INTO_BUFFERS, not how.allocate
        self._model: Any = load_model(path, parameters)
        try:
            self._log = _memory_log(path) if how.from_log or not tells_memory() else None
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def memory_buffers(self, settings: MemorySettings) -> tuple[BufferBytes, ...]:
        """Return what the model takes with a context of these settings, by buffer type; the context is freed again.

        Raises GgufError if llama.cpp refuses the settings, DoesNotFitError if memory does not suffice.
        """
        llama_log().clear()
        context = self._library.llama_init_from_model(self._model, context_parameters(settings))
        if not context:
            raise refusal_of(self._path)
        try:
            return read_memory_breakdown(context) if self._log is None else self._log.buffers(llama_log().lines())
        finally:
            self._library.llama_free(context)

    def described(self, answered_by: str) -> str:
        """Return words for who answers, and how closely."""
        return answered_by if self._log is None else f"{answered_by}; read from llama.cpp's log, to 0.01 MiB"

    def close(self) -> None:
        """Free the model."""
        model, self._model = self._model, None
        if model:
            self._library.llama_model_free(model)


def _memory_log(path: Path) -> "MemoryLog":
    # Imported here, because it reads files and most builds of llama.cpp do without.
    from toolkit.memory.log import MemoryLog

    return MemoryLog(path, llama_log().lines())


class OwnProcess:
    """Asks llama.cpp in this process, not in a child: an RPC server serves one client, which is to be this process."""

    def ask(self, skeleton: Skeleton, settings: MemorySettings) -> Footprint:
        """Return the footprint of a model; see `LoadedModel` for what is raised."""
        devices, answered_by = choose_devices(settings)
        with LoadedModel(skeleton.path, settings, devices) as model:
            buffers, described = model.memory_buffers(settings), model.described(answered_by)
        return by_device(buffers, described, tuple(device.name for device in devices))
