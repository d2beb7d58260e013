"""The load and the speed of this machine: its memory's bandwidth, whether its cores are taken, whether speed can be measured."""

import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy

from toolkit.machine.disk_cache import DiskCache, cache_folder
from toolkit.machine.host import physical_cores

_BUSY_SHARE = 0.15
_SLOW_SHARE = 0.6
_LOOKS, _BETWEEN_LOOKS_SECONDS = 3, 0.005
BLOCK_BYTES = 64 << 20
"""per thread: larger than any cache"""
REPETITIONS = 3
Clock = Callable[[], float]


def cores_are_taken(
    running: Callable[[], int | None] | None = None, cores: int | None = None, pause: float = _BETWEEN_LOOKS_SECONDS
) -> bool:
    """Tell whether more threads want to run than there are cores, in each of a few looks; False where the system does not say.

    `running` counts the threads that run or wait for a core, the caller's among them.
    """
    running, cores = running or running_threads, cores or os.cpu_count() or 1
    for look in range(_LOOKS):
        # A short burst does not count: waiting passively because of it would cost more.
        time.sleep(pause if look else 0)
        if (running() or 0) <= cores:
            return False
    return True


def running_threads(root: Path = Path("/")) -> int | None:
    """Return how many threads of this machine run or wait for a core now, None where the system does not say."""
    try:
        return int((root / "proc/loadavg").read_text(encoding="ascii").split()[3].partition("/")[0])
    except (OSError, ValueError, IndexError):
        return None


def load_warnings(psutil: Any = None, seconds: float = 0.5) -> list[str]:
    """Return what would spoil a measurement of speed: other processes at work, a processor that is held back.

    `psutil` is the module of that name; the load is watched for `seconds`, in which this process does nothing.
    """
    if psutil is None:
        psutil = import_module("psutil")
    own = psutil.Process()
    before = _busy_seconds(psutil) - _seconds_of(own)
    time.sleep(seconds)
    cores = psutil.cpu_count() or 1
    share = max(0.0, _busy_seconds(psutil) - _seconds_of(own) - before) / (seconds * cores)
    warnings = []
    if share > _BUSY_SHARE:
        warnings.append(f"other processes use {share:.0%} of the processor, so rates are lower than they could be")
    return warnings + _held_back(psutil)


def _busy_seconds(psutil: Any) -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0) - getattr(times, "guest", 0))


def _seconds_of(process: Any) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _held_back(psutil: Any) -> list[str]:
    """Return a warning where the clock is far below its maximum although the machine is hot or saving power."""
    frequency = psutil.cpu_freq() if hasattr(psutil, "cpu_freq") else None
    battery = psutil.sensors_battery() if hasattr(psutil, "sensors_battery") else None
    warnings = []
    if battery is not None and battery.power_plugged is False:
        warnings.append("the machine runs on battery, which may hold the processor back")
    if frequency is not None and frequency.max and frequency.current < _SLOW_SHARE * frequency.max:
        warnings.append(
            f"the processor runs at {frequency.current:.0f} of {frequency.max:.0f} MHz; it may be throttled"
        )
    return warnings


def one_blas_thread() -> AbstractContextManager[object]:
    """Let matrix products take one thread until the block ends: where every core has a thread already, more would only spin."""
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[object] = threadpool_limits(1, "blas")
    return limits


def measure_ram_bandwidth(
    n_threads: int | None = None, block_bytes: int = BLOCK_BYTES, clock: Clock = time.perf_counter
) -> float:
    """Return bytes per second that all threads together read, the best of a few rounds."""
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
    known = _bandwidths().get(_key())
    return known if isinstance(known, float) else remember_ram_bandwidth()


def remember_ram_bandwidth() -> float:
    """Measure, and remember the most that was ever measured here: other programs can only lower it."""
    known = _bandwidths().get(_key())
    best = max(measure_ram_bandwidth(), known if isinstance(known, float) else 0.0)
    _bandwidths().put(_key(), best)
    return best


def _bandwidths() -> DiskCache:
    return DiskCache.below(cache_folder(), "bandwidth")


def _key() -> list[object]:
    return [platform.node(), physical_cores()]
