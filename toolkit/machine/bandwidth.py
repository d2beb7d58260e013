"""How fast memory can be read: the host's by measuring it, a GPU's from its clock and the width of its bus."""

import importlib
import json
import os
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy

from toolkit.machine.devices import physical_cores
from toolkit.machine.disk_cache import cache_folder

BLOCK_BYTES = 64 << 20
"""per thread: larger than any cache"""
REPETITIONS = 3
Clock = Callable[[], float]


def measure_ram_bandwidth(
    n_threads: int | None = None, block_bytes: int = BLOCK_BYTES, clock: Clock = time.perf_counter
) -> float:
    """Return bytes per second that all threads together read, the best of a few rounds."""
    from concurrent.futures import ThreadPoolExecutor

    n_threads = n_threads or physical_cores()
    blocks = [numpy.ones(block_bytes // 8, numpy.float64) for _ in range(n_threads)]
    best = float("inf")
    with ThreadPoolExecutor(n_threads) as pool:
        for _ in range(REPETITIONS):
            started = clock()
            # numpy releases the interpreter lock, and a maximum reads every byte and writes none.
            list(pool.map(lambda block: block.max(), blocks))
            best = min(best, clock() - started)
    return n_threads * block_bytes / max(best, 1e-9)


def ram_bandwidth() -> float:
    """Return the bandwidth of this machine's memory, measured once and remembered."""
    known = _remembered()
    return remember_ram_bandwidth() if known is None else known


def remember_ram_bandwidth() -> float:
    """Measure, and remember the most that was ever measured here: other programs only ever take something away."""
    best = max(measure_ram_bandwidth(), _remembered() or 0.0)
    file = _file()
    if file is not None:
        with suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            work = file.with_suffix(f".{os.getpid()}")
            work.write_text(json.dumps({_machine(): best}), encoding="utf-8")
            work.replace(file)
    return best


def _remembered() -> float | None:
    file = _file()
    if file is not None:
        with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
            return float(json.loads(file.read_text(encoding="utf-8"))[_machine()])
    return None


def _file() -> Path | None:
    folder = cache_folder()
    return folder / "bandwidth.json" if folder else None


def _machine() -> str:
    return f"{platform.node()} {physical_cores()}"


def gpu_bandwidths(nvml: Any = None) -> tuple[float, ...]:
    """Return bytes per second of each NVIDIA GPU's memory; those that do not tell are left out.

    Two transfers a clock, as the driver counts the memory clock of GDDR and HBM.
    """
    if nvml is None:
        nvml = importlib.import_module("pynvml")
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return ()
    try:
        return tuple(_gpu_bandwidths(nvml))
    finally:
        nvml.nvmlShutdown()


def _gpu_bandwidths(nvml: Any) -> list[float]:
    found = []
    for index in range(nvml.nvmlDeviceGetCount()):
        with suppress(nvml.NVMLError):
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            megahertz = nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_MEM)
            bits = nvml.nvmlDeviceGetMemoryBusWidth(handle)
            found.append(2.0 * megahertz * 1e6 * bits / 8)
    return found
