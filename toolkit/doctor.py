"""What this machine can do: GPUs, memory, disk, threads, bandwidth, and what the installed libraries were built for."""

import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from toolkit.llama.gpus import find_gpus
from toolkit.llama.offload_build import OffloadBuild, offload_build, reinstall_line
from toolkit.machine.bandwidth import remember_ram_bandwidth
from toolkit.machine.disk_cache import cache_folder
from toolkit.machine.gpus import Gpu, gpu_bandwidths
from toolkit.machine.host import Ram, physical_cores, read_ram
from toolkit.planning.margin import Overhead, known_overheads

LITTLE_DISK = 20 << 30
"""less than this does not hold the files of one larger model"""


@dataclass(frozen=True)
class Versions:
    """What is installed; None for what is not."""

    python: str
    system: str
    distributions: dict[str, str | None]


@dataclass(frozen=True)
class Diagnosis:
    """What was found; `advice` says what would make the machine do more."""

    gpus: tuple[Gpu, ...]
    gpu_bytes_per_second: tuple[float, ...]
    overheads: tuple[Overhead | None, ...]
    """what a process takes of each GPU beyond llama.cpp's buffers, None where nobody measured it"""
    notes: tuple[str, ...]
    build: OffloadBuild
    ram: Ram
    ram_bytes_per_second: float
    disk_path: Path
    disk_free_bytes: int
    threads: int
    cache: Path | None
    versions: Versions
    advice: tuple[str, ...]

    @property
    def healthy(self) -> bool:
        """Tell whether models can be run at all."""
        return self.build.installed


_DISTRIBUTIONS = (
    "gguf-toolkit",
    "llama-cpp-python",
    "gguf",
    "numpy",
    "sentencepiece",
    "tokenizers",
    "nvidia-ml-py",
    "psutil",
)


def diagnose(installed_version: Callable[[str], str | None], folder: Path, *, measure: bool = True) -> Diagnosis:
    """Return what this machine has; `folder` is where output would go. `measure` reads memory for half a second."""
    found, build, known = find_gpus(), offload_build(), known_overheads()
    disk = shutil.disk_usage(folder).free
    return Diagnosis(
        gpus=found.gpus,
        gpu_bytes_per_second=gpu_bandwidths(),
        overheads=tuple(known.get(gpu) for gpu in found.gpus),
        notes=found.notes,
        build=build,
        ram=read_ram(),
        ram_bytes_per_second=remember_ram_bandwidth() if measure else 0.0,
        disk_path=folder,
        disk_free_bytes=disk,
        threads=physical_cores(),
        cache=cache_folder(),
        versions=_versions(installed_version),
        advice=tuple(advice(found.gpus, build, disk)),
    )


def advice(gpus: tuple[Gpu, ...], build: OffloadBuild, disk_free_bytes: int) -> list[str]:
    """Return what to change, each with the exact command where there is one."""
    found = []
    if not build.installed:
        found.append(f"llama-cpp-python is not installed, nothing can be run or measured: {reinstall_line()}")
    elif gpus and not build.offloads:
        found.append(f"llama-cpp-python was built without offload, {gpus[0].name} stays idle: {reinstall_line()}")
    elif "RPC" not in build.backends:
        found.append(
            f"llama-cpp-python was built without RPC: no stand-in for a GPU and no servers: {reinstall_line()}"
        )
    if disk_free_bytes < LITTLE_DISK:
        found.append("little disk space is left for models; --out names another place")
    return found


def _versions(installed_version: Callable[[str], str | None]) -> Versions:
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    return Versions(sys.version.split()[0], system, {name: installed_version(name) for name in _DISTRIBUTIONS})
