"""The GPUs that can be planned for: NVIDIA's as NVML reports them, any other as ggml does.

Memory that is the host's (Apple's, and a processor's own GPU without memory set apart for it) is marked as such: it
counts once. ggml's numbers are what its backend may take: on a Mac the working set that the system recommends.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from toolkit.llama.offload_build import OffloadBuild, offload_build
from toolkit.machine.gpus import Gpu, GpuList, list_gpus
from toolkit.machine.host import Ram, read_ram

if TYPE_CHECKING:
    from toolkit.llama.ggml_devices import GgmlDevice

APPLE = ("Metal", "MTL")
_NVIDIA, _SERVERS = "CUDA", "RPC"


@dataclass(frozen=True)
class ReportedDevice:
    """A device and its memory in ggml's words."""

    name: str
    description: str
    integrated: bool
    free_bytes: int
    total_bytes: int


def find_gpus(
    nvml: Any = None,
    build: OffloadBuild | None = None,
    report: Callable[[], Sequence[ReportedDevice]] | None = None,
    ram: Ram | None = None,
) -> GpuList:
    """Return the GPUs of this machine; ggml is asked where NVML has none and llama-cpp-python was built for others."""
    found = list_gpus(nvml)
    build = build or offload_build()
    if found.gpus or not set(build.backends) - {_NVIDIA, _SERVERS}:
        return found
    ram = ram or read_ram()
    return GpuList(tuple(as_gpu(device, ram) for device in (report or _reported)()), found.notes)


def as_gpu(device: ReportedDevice, ram: Ram) -> Gpu:
    """Return a device of ggml as a GPU; of memory that is the host's, no more is free than the host has."""
    gpu = Gpu(device.description, device.name, device.total_bytes, device.free_bytes, origin=f"ggml, {device.name}")
    if not _shares_ram(device, ram):
        return gpu
    return replace(gpu, free_bytes=min(device.free_bytes, ram.available_bytes), shares_ram=True)


def _shares_ram(device: ReportedDevice, ram: Ram) -> bool:
    """Tell whether a device's memory is the host's; more than the host has was set apart before the host came to it."""
    return device.name.startswith(APPLE) or (device.integrated and device.total_bytes <= ram.total_bytes)


def reported(device: "GgmlDevice") -> ReportedDevice:
    """Return what ggml says of a device and its memory now."""
    from toolkit.llama.ggml_devices import DeviceKind, memory_of

    integrated = device.kind == DeviceKind.INTEGRATED_GPU
    return ReportedDevice(device.name, device.description, integrated, *memory_of(device))


def _reported() -> list[ReportedDevice]:
    # Imported here, because it loads llama.cpp.
    from toolkit.llama.ggml_devices import offload_devices

    return [reported(device) for device in offload_devices()]
