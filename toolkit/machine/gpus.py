"""NVIDIA's GPUs, as NVML reports them: their memory, who holds it, and how fast it can be read."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, TypeVar

Answer = TypeVar("Answer")
MIG_ENABLED = 1
WDDM = 0


@dataclass(frozen=True)
class Holder:
    """A process that holds memory of a GPU; `used_bytes` is None where the driver does not say."""

    pid: int
    used_bytes: int | None


@dataclass(frozen=True)
class Gpu:
    """A GPU, or a MIG instance of one, with its memory as of now."""

    name: str
    uuid: str
    total_bytes: int
    free_bytes: int
    holders: tuple[Holder, ...] = ()
    origin: str = "NVML"
    driver: str = ""
    wddm: bool = False
    """whether Windows' own driver model runs it, which moves memory to RAM where there is too little"""
    shares_ram: bool = False
    """whether its memory is the host's"""


@dataclass(frozen=True)
class GpuList:
    """The GPUs that could be read; `notes` say which could not, and why."""

    gpus: tuple[Gpu, ...]
    notes: tuple[str, ...] = ()


def list_gpus(nvml: Any = None) -> GpuList:
    """Return NVIDIA's GPUs; without a driver there are none, and a note says so. `nvml` is the module pynvml."""
    return _asked(nvml, _read_gpus, lambda error: GpuList((), (f"NVML: {error}",)))


def gpu_bandwidths(nvml: Any = None) -> tuple[float, ...]:
    """Return bytes per second of each NVIDIA GPU's memory; those whose driver does not say are left out.

    Two transfers a clock, as the driver counts the memory clock of GDDR and HBM.
    """
    return _asked(nvml, _read_bandwidths, lambda _error: ())


@cache
def gpu_names() -> tuple[str, ...]:
    """Return name and size of each GPU."""
    return tuple(f"{gpu.name} {gpu.total_bytes}" for gpu in list_gpus().gpus)


def _asked(nvml: Any, read: Callable[[Any], Answer], without: Callable[[Exception], Answer]) -> Answer:
    """Return what `read` gets from NVML while that is open, or what `without` makes of its error."""
    nvml = import_module("pynvml") if nvml is None else nvml
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return without(error)
    try:
        return read(nvml)
    except nvml.NVMLError as error:
        return without(error)
    finally:
        nvml.nvmlShutdown()


def _read_gpus(nvml: Any) -> GpuList:
    gpus: list[Gpu] = []
    notes: list[str] = []
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
        except nvml.NVMLError as error:
            notes.append(f"GPU {index} skipped: {error}")
            continue
        for name, device in _with_instances(nvml, index, handle):
            try:
                gpus.append(_read_gpu(nvml, device))
            except nvml.NVMLError as error:
                notes.append(f"{name} skipped: {error}")
    return GpuList(tuple(gpus), tuple(notes))


def _with_instances(nvml: Any, index: int, handle: Any) -> Iterator[tuple[str, Any]]:
    if not _mig_enabled(nvml, handle):
        yield f"GPU {index}", handle
        return
    # A GPU that is split into MIG instances cannot be used as a whole, so only the instances count.
    for instance in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            yield f"GPU {index}, MIG {instance}", nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, instance)
        except nvml.NVMLError:  # an instance slot that is not in use
            continue


def _mig_enabled(nvml: Any, handle: Any) -> bool:
    try:
        current, _ = nvml.nvmlDeviceGetMigMode(handle)
    except nvml.NVMLError:
        return False
    return bool(current == MIG_ENABLED)


def _read_gpu(nvml: Any, handle: Any) -> Gpu:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    name, uuid = _text(nvml.nvmlDeviceGetName(handle)), _text(nvml.nvmlDeviceGetUUID(handle))
    holders, driver = _holders(nvml, handle), _text(nvml.nvmlSystemGetDriverVersion())
    return Gpu(name, uuid, int(memory.total), int(memory.free), holders, driver=driver, wddm=_is_wddm(nvml, handle))


def _is_wddm(nvml: Any, handle: Any) -> bool:
    try:
        return bool(nvml.nvmlDeviceGetCurrentDriverModel(handle) == WDDM)
    except nvml.NVMLError:  # not Windows
        return False


def _holders(nvml: Any, handle: Any) -> tuple[Holder, ...]:
    try:
        processes = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
    except nvml.NVMLError:
        return ()
    return tuple(Holder(process.pid, process.usedGpuMemory) for process in processes)


def _read_bandwidths(nvml: Any) -> tuple[float, ...]:
    bandwidths = []
    for index in range(nvml.nvmlDeviceGetCount()):
        with suppress(nvml.NVMLError):
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            megahertz = nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_MEM)
            bits = nvml.nvmlDeviceGetMemoryBusWidth(handle)
            bandwidths.append(2.0 * megahertz * 1e6 * bits / 8)
    return tuple(bandwidths)


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
