"""The host as this process may use it: memory and cores within the limits of its cgroups, and the environment of a child."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Ram:
    """Memory that this process may use; `origin` names the tightest limit."""

    total_bytes: int
    available_bytes: int
    origin: str


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


def own_listening_ports(address: str) -> set[int]:
    """Return the TCP ports of an IPv4 address on which this very process accepts connections."""
    mine = psutil.Process().net_connections("tcp4")
    listening = (connection for connection in mine if connection.status == psutil.CONN_LISTEN)
    return {connection.laddr.port for connection in listening if connection.laddr.ip == address}


def physical_cores(root: Path = Path("/")) -> int:
    """Return how many threads are worth running: physical cores, less where affinity or a cgroup's quota limits them."""
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
    memory = psutil.virtual_memory()
    return Ram(int(memory.total), int(memory.available), "the host")


@dataclass(frozen=True)
class _CgroupFiles:
    version: str
    limit: str
    used: str
    droppable: tuple[str, ...]
    """what the kernel takes back where memory is short: pages of files, used lately or not, and what it knows of files"""


_V1 = _CgroupFiles("v1", "memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file"))
_V2 = _CgroupFiles("v2", "memory.max", "memory.current", ("inactive_file", "active_file", "slab_reclaimable"))


def _limits(root: Path) -> Iterator[Ram]:
    for files, directory, name in _groups(root):
        limit, used = _number(directory / files.limit), _number(directory / files.used)
        if limit is None or used is None:
            continue
        left = limit - max(0, used - _sum_of_statistics(directory / "memory.stat", files.droppable))
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


def _sum_of_statistics(file: Path, keys: tuple[str, ...]) -> int:
    entries = (line.partition(" ") for line in _read(file).splitlines())
    return sum(int(value) for name, _, value in entries if name in keys and value.isdecimal())


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def child_environment() -> dict[str, str]:
    """Return the environment of this process, in which Python finds this very package, and nothing in the current folder.

    That may be a checkpoint of strangers, with a json.py in it. ggml leaves debuggers alone.
    """
    package = str(Path(__file__).resolve().parents[2])
    paths = [package, os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else [package]
    # Without GGML_NO_BACKTRACE an abort starts a debugger if there is one.
    ours = {"PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1", "PYTHONUTF8": "1", "GGML_NO_BACKTRACE": "1"}
    return os.environ | ours


def installed_version(distribution: str) -> str | None:
    """Return the installed version of a distribution, without importing it."""
    from importlib import metadata

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
