"""What a process takes of each GPU beyond llama.cpp's buffers: the driver's context, libraries, kernels.

A small model is loaded on the GPUs and run once, in a process of its own; what NVML sees before and after, less the
buffers, is what stays. NVML tells how much a process holds; where it does not (Windows, containers with process numbers
of their own), what is free on the GPU tells it, if nobody else comes or goes meanwhile.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from toolkit.convert import write_gguf
from toolkit.demo import demo_checkpoint
from toolkit.devices import Gpu, list_gpus
from toolkit.errors import EnvironmentFaultError
from toolkit.hf_source import source_from_checkpoint
from toolkit.margin import KnownOverheads, Overhead
from toolkit.memory import AskedDevice, Footprint, MemoryProbe, MemorySettings
from toolkit.offload_build import offload_build, reinstall_line
from toolkit.quant_profile import load_profile
from toolkit.tensor_plan import plan_conversion

ALL_LAYERS = 999
PROFILE = "q8_0"


def calibrate(known: KnownOverheads, nvml: Any = None, device: AskedDevice = "gpu") -> tuple[Overhead, ...]:
    """Measure every NVIDIA GPU of this machine, and keep what was found.

    Raises EnvironmentFaultError if there is none, or llama-cpp-python cannot use it.
    """
    before = list_gpus(nvml).gpus
    check_usable(before, device)
    with tempfile.TemporaryDirectory(prefix="gguf-toolkit-") as folder, MemoryProbe() as probe:
        path = Path(folder) / "demo.gguf"
        write_gguf(plan_conversion(source_from_checkpoint(demo_checkpoint()), load_profile(PROFILE)), path)
        settings = MemorySettings(512, ALL_LAYERS, device=device, n_devices=len(before))
        footprint = probe.hold(path, settings)
        found = overheads(before, list_gpus(nvml).gpus, footprint, probe.pid)
    for overhead in found:
        known.put(overhead)
    return found


def check_usable(gpus: Sequence[Gpu], device: AskedDevice = "gpu") -> None:
    """Raise EnvironmentFaultError where there is nothing to measure."""
    if not gpus:
        raise EnvironmentFaultError(
            "there is no NVIDIA GPU here to measure; plans go on leaving 6 % of a GPU free, at most 512 MiB"
        )
    if device == "gpu" and not offload_build().offloads:
        raise EnvironmentFaultError(
            f"llama-cpp-python was built without offload, so {gpus[0].name} cannot be measured; reinstall it: {reinstall_line()}"
        )


def overheads(
    before: Sequence[Gpu], after: Sequence[Gpu], footprint: Footprint, pid: int | None
) -> tuple[Overhead, ...]:
    """Return what a process takes of each GPU beyond the buffers of its footprint.

    llama.cpp's devices and NVML's GPUs come in the same order; see `native.llama_cpp`.
    """
    found = []
    for was, now, name in zip(before, after, footprint.asked, strict=False):
        taken_bytes, origin = taken(was, now, pid)
        found.append(Overhead(now.name, now.driver, max(0, taken_bytes - footprint.bytes_on(name)), origin))
    return tuple(found)


def taken(before: Gpu, after: Gpu, pid: int | None) -> tuple[int, str]:
    """Return what a process has taken of a GPU, and how that is known."""
    held = [holder.used_bytes for holder in after.holders if holder.pid == pid and holder.used_bytes is not None]
    if held:
        return held[0], "NVML's account of the process"
    return max(0, before.free_bytes - after.free_bytes), "what is free on the GPU, before and after"
