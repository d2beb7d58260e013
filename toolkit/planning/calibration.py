"""What a process takes of each GPU beyond llama.cpp's buffers: the driver's context, libraries, kernels.

A small model is loaded on the GPUs and run once, in a process of its own; what NVML sees before and after, less the
buffers, is what stays. NVML tells how much a process holds; where it does not (Windows, containers with process numbers
of their own), what is free on the GPU tells it, if nobody else comes or goes meanwhile.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.conversion.convert import write_gguf
from toolkit.conversion.tensor_plan import plan_conversion
from toolkit.demo import demo_checkpoint
from toolkit.errors import EnvironmentFaultError
from toolkit.gguf.scratch import ScratchFolder
from toolkit.llama.footprint import Footprint
from toolkit.llama.load_settings import AskedDevice, LoadSettings
from toolkit.llama.offload_build import offload_build, reinstall_line
from toolkit.machine.gpus import Gpu, list_gpus
from toolkit.memory.probe import MemoryProbe
from toolkit.planning.margin import KnownOverheads, Overhead
from toolkit.quant_profile import load_profile
from toolkit.sources.hf_source import source_from_checkpoint

ALL_LAYERS = 999
PROFILE = "q8_0"


@dataclass(frozen=True)
class Observation:
    """What NVML sees a process take of a GPU, and what of that are llama.cpp's buffers."""

    gpu: Gpu
    taken_bytes: int
    buffer_bytes: int
    origin: str

    @property
    def overhead(self) -> Overhead:
        """Return the rest."""
        return Overhead(self.gpu.name, self.gpu.driver, max(0, self.taken_bytes - self.buffer_bytes), self.origin)


def calibrate(known: KnownOverheads, nvml: Any = None, device: AskedDevice = "gpu") -> tuple[Overhead, ...]:
    """Measure every NVIDIA GPU of this machine, and keep what was found.

    Raises EnvironmentFaultError if there is none, or llama-cpp-python cannot use it.
    """
    gpus = list_gpus(nvml).gpus
    check_usable(gpus, device)
    with ScratchFolder() as folder:
        path = folder / "demo.gguf"
        write_gguf(plan_conversion(source_from_checkpoint(demo_checkpoint()), load_profile(PROFILE)), path)
        settings = LoadSettings(n_ctx=512, n_gpu_layers=ALL_LAYERS, device=device, n_devices=len(gpus))
        found = tuple(observation.overhead for observation in observe(path, settings, nvml))
    for overhead in found:
        known.put(overhead)
    return found


def observe(path: Path, settings: LoadSettings, nvml: Any = None) -> tuple[Observation, ...]:
    """Load a file in a process of its own, run it once, and return what that takes of each GPU.

    Raises DoesNotFitError if memory does not suffice.
    """
    before = list_gpus(nvml).gpus
    with MemoryProbe() as probe:
        footprint = probe.hold(path, settings)
        return observations(before, list_gpus(nvml).gpus, footprint, probe.pid)


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


def observations(
    before: Sequence[Gpu], after: Sequence[Gpu], footprint: Footprint, pid: int | None
) -> tuple[Observation, ...]:
    """Return what a process takes of each GPU, and its buffers there.

    llama.cpp's devices and NVML's GPUs come in the same order; see `native.llama_cpp`.
    """
    pairs = zip(before, after, footprint.asked, strict=False)
    return tuple(_observation(was, now, footprint.bytes_on(name), pid) for was, now, name in pairs)


def _observation(was: Gpu, now: Gpu, buffer_bytes: int, pid: int | None) -> Observation:
    taken_bytes, origin = taken(was, now, pid)
    return Observation(now, taken_bytes, buffer_bytes, origin)


def taken(before: Gpu, after: Gpu, pid: int | None) -> tuple[int, str]:
    """Return what a process has taken of a GPU, and how that is known."""
    held = [holder.used_bytes for holder in after.holders if holder.pid == pid and holder.used_bytes is not None]
    if held:
        return held[0], "NVML's account of the process"
    return max(0, before.free_bytes - after.free_bytes), "what is free on the GPU, before and after"
