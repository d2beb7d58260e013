"""How fast the host's memory can be read, by measuring it."""

import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy

from toolkit.machine.disk_cache import DiskCache, cache_folder
from toolkit.machine.host import physical_cores

BLOCK_BYTES = 64 << 20
"""per thread: larger than any cache"""
REPETITIONS = 3
Clock = Callable[[], float]


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
    known = _kept().get(_key())
    return known if isinstance(known, float) else remember_ram_bandwidth()


def remember_ram_bandwidth() -> float:
    """Measure, and remember the most that was ever measured here: other programs only ever take something away."""
    known = _kept().get(_key())
    best = max(measure_ram_bandwidth(), known if isinstance(known, float) else 0.0)
    _kept().put(_key(), best)
    return best


def _kept() -> DiskCache:
    return DiskCache.below(cache_folder(), "bandwidth")


def _key() -> list[object]:
    return [platform.node(), physical_cores()]
