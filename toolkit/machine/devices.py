"""What this machine has: GPUs as NVML reports them, memory as the host and its cgroups allow, cores.

Every number says where it comes from.
"""

import importlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MIG_ENABLED = 1
WDDM = 0


@dataclass(frozen=True)
class Holder:
    """A process that holds memory of a GPU; `used_bytes` is None where the driver does not tell."""

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


@dataclass(frozen=True)
class Ram:
    """Memory that this process may use; `origin` names the tightest limit."""

    total_bytes: int
    available_bytes: int
    origin: str


def list_gpus(nvml: Any = None) -> GpuList:
    """Return NVIDIA's GPUs; without a driver there are none, and a note says so. `nvml` is the module pynvml."""
    if nvml is None:
        nvml = importlib.import_module("pynvml")
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return GpuList((), (f"NVML: {error}",))
    try:
        return _read_gpus(nvml)
    finally:
        nvml.nvmlShutdown()


def _read_gpus(nvml: Any) -> GpuList:
    gpus: list[Gpu] = []
    notes: list[str] = []
    try:
        count = nvml.nvmlDeviceGetCount()
    except nvml.NVMLError as error:
        return GpuList((), (f"NVML: {error}",))
    for index in range(count):
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


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def read_ram(root: Path = Path("/"), host: Ram | None = None) -> Ram:
    """Return the memory that is left to this process: the host's, or less where a cgroup limits it.

    `root` is where /proc and /sys are found. A limit leaves what it allows minus what its group uses, file cache
    that can be dropped not counted; the tightest of a group's ancestors decides.
    """
    best = host or _host_ram()
    for limit in _limits(root):
        available = min(best.available_bytes, limit.available_bytes)
        tighter = limit.available_bytes < best.available_bytes or limit.total_bytes < best.total_bytes
        best = Ram(min(best.total_bytes, limit.total_bytes), available, limit.origin if tighter else best.origin)
    return best


def physical_cores(root: Path = Path("/")) -> int:
    """Return how many threads are worth running: physical cores, less where affinity or a cgroup's quota limits them."""
    import psutil

    counts = [psutil.cpu_count(logical=False) or os.cpu_count() or 1]
    if hasattr(os, "sched_getaffinity"):
        counts.append(len(os.sched_getaffinity(0)))
    counts += [quota for quota in _cpu_quotas(root) if quota > 0]
    return max(1, min(counts))


def processor_line(*keys: str) -> str:
    """Return the first line of /proc/cpuinfo that begins with one of these keys, nothing where there is none."""
    lines = _read(Path("/proc/cpuinfo")).splitlines()
    return next((line for line in lines if line.startswith(keys)), "")


def _host_ram() -> Ram:
    import psutil

    memory = psutil.virtual_memory()
    return Ram(int(memory.total), int(memory.available), "the host")


@dataclass(frozen=True)
class _CgroupFiles:
    version: str
    limit: str
    used: str
    droppable: str


_V1 = _CgroupFiles("v1", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2 = _CgroupFiles("v2", "memory.max", "memory.current", "inactive_file")


def _limits(root: Path) -> Iterator[Ram]:
    for files, directory, name in _groups(root):
        limit, used = _number(directory / files.limit), _number(directory / files.used)
        if limit is None or used is None:
            continue
        left = limit - max(0, used - _statistic(directory / "memory.stat", files.droppable))
        yield Ram(limit, max(0, left), f"cgroup {files.version} {files.limit} of {name}")


def _groups(root: Path) -> Iterator[tuple[_CgroupFiles, Path, str]]:
    """Yield every memory cgroup of this process from the innermost outwards, as far as it can be seen."""
    base = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            yield from ((_V2, directory, name) for directory, name in _ancestors(base, path))
        elif "memory" in controllers.split(","):
            yield from ((_V1, directory, name) for directory, name in _ancestors(base / "memory", path))


def _ancestors(base: Path, path: str) -> Iterator[tuple[Path, str]]:
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for count in range(len(parts), -1, -1):
        yield base.joinpath(*parts[:count]), "/" + "/".join(parts[:count])


def _cpu_quotas(root: Path) -> Iterator[int]:
    for files, directory, _ in _groups(root):
        if files is _V2:
            quota, _, period = _read(directory / "cpu.max").strip().partition(" ")
            if quota.isdecimal() and period.isdecimal():
                yield -(-int(quota) // int(period))


def _number(file: Path) -> int | None:
    text = _read(file).strip()
    return int(text) if text.isdecimal() else None


def _statistic(file: Path, key: str) -> int:
    for line in _read(file).splitlines():
        name, _, value = line.partition(" ")
        if name == key and value.isdecimal():
            return int(value)
    return 0


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
