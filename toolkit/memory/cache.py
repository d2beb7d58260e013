"""Answers about memory, kept on disk under what they depend on: the model's shape, the settings, the build, the device.

And on who told: what is read from llama.cpp's log is less exact than its own account.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from toolkit.llama.cpu_trial import cpu_trial
from toolkit.llama.footprint import Footprint, footprint_from
from toolkit.llama.load_settings import LoadSettings
from toolkit.llama.offload_build import llama_build
from toolkit.machine.disk_cache import DiskCache
from toolkit.machine.gpus import gpu_names
from toolkit.memory.probe import MemoryProbe
from toolkit.memory.skeleton import Skeleton

_FORMAT = 4


class MemoryCache:
    """A folder of answers."""

    def __init__(self, folder: Path | None, *, from_log: bool = False) -> None:
        self._kept = DiskCache.below(folder, "memory")
        self._from_log = from_log

    def get(self, skeleton: Skeleton, settings: LoadSettings) -> Footprint | None:
        """Return a kept answer, None if there is none."""
        document = self._kept.get(self._key(skeleton, settings))
        try:
            return None if document is None else footprint_from(document)
        except (ValueError, TypeError, KeyError):
            return None

    def put(self, skeleton: Skeleton, settings: LoadSettings, footprint: Footprint) -> None:
        """Keep an answer."""
        self._kept.put(self._key(skeleton, settings), footprint.document())

    def _key(self, skeleton: Skeleton, settings: LoadSettings) -> list[Any]:
        gpus = () if settings.device in ("cpu", "simulated") else gpu_names()
        build = [*llama_build(), cpu_trial().extra_buffers]
        return [_FORMAT, self._from_log, skeleton.digest, asdict(settings), build, gpus]


class CachedProbe:
    """A MemoryProbe that is asked only what is not known; its child process starts with the first such question."""

    def __init__(self, probe: MemoryProbe, kept: MemoryCache) -> None:
        self._probe, self._kept = probe, kept
        self._known: dict[tuple[str, LoadSettings], Footprint] = {}
        self.asked = 0

    def ask(self, skeleton: Skeleton, settings: LoadSettings) -> Footprint:
        """Return the footprint of a model; see `MemoryProbe.predict` for what is raised."""
        key = (skeleton.digest, settings)
        if key not in self._known:
            # A server at an endpoint may be another one tomorrow, so its answers are not kept on disk.
            self._known[key] = self._asked(skeleton, settings) if settings.rpc else self._looked_up(skeleton, settings)
        return self._known[key]

    def _looked_up(self, skeleton: Skeleton, settings: LoadSettings) -> Footprint:
        footprint = self._kept.get(skeleton, settings)
        if footprint is None:
            footprint = self._asked(skeleton, settings)
            self._kept.put(skeleton, settings, footprint)
        return footprint

    def _asked(self, skeleton: Skeleton, settings: LoadSettings) -> Footprint:
        self.asked += 1
        return self._probe.predict(skeleton.path, settings)
