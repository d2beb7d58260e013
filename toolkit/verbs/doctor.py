"""`doctor`: what this machine can do, and what would make it do more."""

import platform
import shutil
import sys
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path

from toolkit.llama.cpu_trial import WORKS, Trial, complaint, cpu_trial
from toolkit.llama.gpus import find_gpus
from toolkit.llama.offload_build import OffloadBuild, offload_build, rebuild_line, reinstall_line
from toolkit.machine.disk_cache import cache_folder
from toolkit.machine.gpus import Gpu, gpu_bandwidths, list_gpus
from toolkit.machine.host import Ram, installed_version, physical_cores, read_ram
from toolkit.machine.load import remember_ram_bandwidth
from toolkit.planning.calibration import calibrate
from toolkit.planning.margin import Overhead, known_overheads
from toolkit.reporter import Reporter
from toolkit.units import format_size
from toolkit.verbs.verb import verb

LITTLE_DISK = 20 << 30
"""less than this does not hold the files of one larger model"""


@dataclass(frozen=True)
class Versions:
    """What is installed; None for what is not."""

    python: str
    system: str
    distributions: dict[str, str | None]


@dataclass(frozen=True)
class DoctorResult:
    """What was found; `advice` says what would make the machine do more."""

    gpus: tuple[Gpu, ...]
    gpu_bytes_per_second: tuple[float, ...]
    overheads: tuple[Overhead | None, ...]
    """what a process takes of each GPU beyond llama.cpp's buffers, None where nobody measured it"""
    notes: tuple[str, ...]
    build: OffloadBuild
    trial: Trial
    """whether that build computes on this processor"""
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
        return self.build.installed and self.trial.computes


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


@dataclass(frozen=True)
class DoctorRequest:
    """What is measured, and where output would go."""

    folder: Path | str = field(default_factory=Path.cwd)
    """whose disk is looked at"""
    _: KW_ONLY
    measure: bool = True
    """measure the bandwidth of RAM, which takes half a second"""
    calibrate: bool = False
    """measure what a process takes of each GPU beyond llama.cpp's buffers; plans use it from then on"""


@verb(DoctorRequest)
def doctor(request: DoctorRequest, reporter: Reporter) -> DoctorResult:
    """Look at GPUs, RAM, disk, threads, bandwidth and versions, and whether llama.cpp computes on this processor.

    ```python
    result = toolkit.doctor()
    print(result.healthy, result.advice)
    ```

    Raises EnvironmentFaultError where `calibrate` finds no GPU to measure.
    """
    if request.calibrate:
        for overhead in calibrate(known_overheads()):
            reporter.note(
                f"{overhead.gpu}: a process takes {format_size(overhead.n_bytes)} beyond its buffers ({overhead.origin})"
            )
    folder, measure = Path(request.folder), request.measure
    build, trial, known = offload_build(), cpu_trial(), known_overheads()
    # ggml is not asked for devices where that may end this process.
    listed = find_gpus() if trial.computes else list_gpus()
    disk = shutil.disk_usage(folder).free
    return DoctorResult(
        gpus=listed.gpus,
        gpu_bytes_per_second=gpu_bandwidths(),
        overheads=tuple(known.get(gpu) for gpu in listed.gpus),
        notes=listed.notes,
        build=build,
        trial=trial,
        ram=read_ram(),
        ram_bytes_per_second=remember_ram_bandwidth() if measure else 0.0,
        disk_path=folder,
        disk_free_bytes=disk,
        threads=physical_cores(),
        cache=cache_folder(),
        versions=_versions(),
        advice=tuple(advice_for(listed.gpus, build, disk, trial)),
    )


def advice_for(gpus: tuple[Gpu, ...], build: OffloadBuild, disk_free_bytes: int, trial: Trial = WORKS) -> list[str]:
    """Return what to change, each with the exact command where there is one."""
    advice = [f"{complaint(trial)}: {rebuild_line(build)}"] if trial.fault else []
    if not build.installed:
        advice.append(f"llama-cpp-python is not installed, nothing can be run or measured: {reinstall_line()}")
    elif gpus and not build.offloads:
        advice.append(f"llama-cpp-python was built without offload, {gpus[0].name} stays idle: {reinstall_line()}")
    elif "RPC" not in build.backends:
        advice.append(f"llama-cpp-python was built without RPC: no simulated GPU and no servers: {reinstall_line()}")
    if disk_free_bytes < LITTLE_DISK:
        advice.append("little disk space is left for models; --out names another place")
    return advice


def _versions() -> Versions:
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    return Versions(sys.version.split()[0], system, {name: installed_version(name) for name in _DISTRIBUTIONS})
