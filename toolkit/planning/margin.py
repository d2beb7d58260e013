"""What stays free on a GPU beside the buffers: the driver's context and libraries, and room for what cannot be foreseen.

A GPU that `doctor --calibrate` has measured keeps free what was measured there and `SPARE`. Of any other, `ASSUMED` is
taken to do: CUDA's context and libraries take 150 to 500 MiB. Windows' own driver model
(WDDM) lets the desktop take memory at any time, and then moves the program's to RAM instead of failing, so more stays
free there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from toolkit.llama.offload_build import llama_build
from toolkit.machine.disk_cache import DiskCache, cache_folder
from toolkit.machine.gpus import Gpu, list_gpus
from toolkit.units import MIB

ASSUMED = (6, 512 * MIB)
"""per cent of a GPU, and the most of it: its driver's context, libraries and a spare"""
SPARE = (1, 128 * MIB)
"""beside what was measured: pools that grow, gaps between buffers"""
WDDM = (4, 512 * MIB)
"""on top"""
_FORMAT = 1


@dataclass(frozen=True)
class Overhead:
    """What a process takes of a GPU beyond llama.cpp's buffers, and how that was seen."""

    gpu: str
    driver: str
    n_bytes: int
    origin: str


class KnownOverheads:
    """What was measured here, kept by GPU, driver and build of llama.cpp."""

    def __init__(self, kept: DiskCache) -> None:
        self._kept = kept

    def get(self, gpu: Gpu) -> Overhead | None:
        """Return what was measured, None if nothing was."""
        found = self._kept.get(_key(gpu.name, gpu.driver))
        try:
            return Overhead(gpu.name, gpu.driver, int(found["bytes"]), str(found["origin"]))
        except (TypeError, KeyError, ValueError):
            return None

    def put(self, overhead: Overhead) -> None:
        """Keep what was measured."""
        document = {"bytes": overhead.n_bytes, "origin": overhead.origin}
        self._kept.put(_key(overhead.gpu, overhead.driver), document)


def known_overheads() -> KnownOverheads:
    """Return what is kept in the user's cache folder."""
    return KnownOverheads(DiskCache.below(cache_folder(), "overhead"))


def default_margin(vram_bytes: Sequence[int], gpus: Sequence[Gpu] = (), known: KnownOverheads | None = None) -> int:
    """Return what stays free on each GPU unless the user says otherwise; `gpus` are those of this machine.

    Budgets are larger than the GPUs' own where servers take part, and made up where there is no GPU at all: then nothing
    was measured.
    """
    smallest = min(vram_bytes, default=0)
    overhead = measured_overhead(gpus, known) if known is not None else None
    margin = _share(smallest, *ASSUMED) if overhead is None else overhead + _share(smallest, *SPARE)
    return margin + (_share(smallest, *WDDM) if any(gpu.wddm for gpu in gpus) else 0)


def measured_overhead(gpus: Sequence[Gpu], known: KnownOverheads) -> int | None:
    """Return the most that a process takes of one of the GPUs beyond its buffers, None if one of them was not measured."""
    measured = [known.get(gpu) for gpu in gpus]
    found = [each.n_bytes for each in measured if each is not None]
    return max(found) if found and len(found) == len(measured) else None


def machine_margin(vram_bytes: Sequence[int]) -> int:
    """Return the margin with all that is known of this machine's GPUs."""
    return default_margin(vram_bytes, list_gpus().gpus, known_overheads())


def _share(size: int, per_cent: int, most: int) -> int:
    return min(most, size * per_cent // 100)


def _key(gpu: str, driver: str) -> list[object]:
    return [_FORMAT, gpu, driver, llama_build()]
