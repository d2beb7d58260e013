"""A model that is loaded for no other purpose than to see what it takes, with every setting that memory depends on."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from toolkit.llama.callbacks import native_code
from toolkit.llama.devices import choose_devices
from toolkit.llama.footprint import Footprint, by_device
from toolkit.llama.load_settings import LoadSettings
from toolkit.llama.log import llama_log
from toolkit.llama.memory_breakdown import output_buffer, read_memory_breakdown, tells_memory
from toolkit.llama.native import llama_cpp
from toolkit.llama.opening import check_opens
from toolkit.llama.parameters import LOAD_INTO_BUFFERS, ModelParameters, context_parameters, load_model, refusal_of
from toolkit.llama.simulated_load import divide_as_a_real_load
from toolkit.memory.skeleton import Skeleton

if TYPE_CHECKING:
    from toolkit.memory.memory_log import MemoryLog


class LoadedModel:
    """A model in llama.cpp, on which contexts are made one at a time; use it in a `with` statement, which frees it."""

    def __init__(self, path: Path, settings: LoadSettings, *, allocate: bool = False, from_log: bool = False) -> None:
        """Load the model on the devices that the settings mean.

        Without `allocate` no weight is read and no memory taken; `from_log` reads llama.cpp's log, as where its account of
        memory cannot be read.

        Raises GgufError if llama.cpp refuses the file, DoesNotFitError if memory does not suffice, and what
        `choose_devices` raises.
        """
        if not allocate:
            divide_as_a_real_load()
        self._path = path
        check_opens(path, settings)
        self._library = llama_cpp()
        devices, self._answered_by = choose_devices(settings)
        self._asked = tuple(device.name for device in devices)
        self._parameters = ModelParameters(settings, [device.pointer for device in devices])
        parameters = self._parameters.structure
        # Simulated allocation needs buffers, as a device has them: a mapped file would not be counted.
        parameters.load_mode, parameters.no_alloc = LOAD_INTO_BUFFERS, not allocate
        self._model: Any = load_model(path, parameters)
        try:
            self._log = _memory_log(path) if from_log or not tells_memory() else None
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def footprint(self, settings: LoadSettings) -> Footprint:
        """Return what the model takes with a context of these settings, which is freed again.

        Raises GgufError if llama.cpp refuses the settings, DoesNotFitError if memory does not suffice.
        """
        llama_log().begin()
        with native_code():
            context = self._library.llama_init_from_model(self._model, context_parameters(settings))
        if not context:
            raise refusal_of(self._path)
        try:
            outputs = output_buffer(self._model, settings.n_outputs, settings.n_parallel)
            if self._log is None:
                return by_device((*read_memory_breakdown(context), outputs), self._answered_by, self._asked)
            answered_by = f"{self._answered_by}; read from llama.cpp's log, to 0.01 MiB"
            return by_device((*self._log.buffers(llama_log().lines()), outputs), answered_by, self._asked)
        finally:
            self._library.llama_free(context)

    def close(self) -> None:
        """Free the model."""
        model, self._model = self._model, None
        if model:
            self._library.llama_model_free(model)


def _memory_log(path: Path) -> "MemoryLog":
    # Imported here, because it reads files and most builds of llama.cpp do without.
    from toolkit.memory.memory_log import MemoryLog

    return MemoryLog(path, llama_log().lines())


class OwnProcess:
    """Asks llama.cpp in this process, not in a child: an RPC server serves one client, which is to be this process."""

    def ask(self, skeleton: Skeleton, settings: LoadSettings) -> Footprint:
        """Return the footprint of a model; see `LoadedModel` for what is raised."""
        with LoadedModel(skeleton.path, settings) as model:
            return model.footprint(settings)
