"""Answers about memory, kept on disk under what they depend on: the model's shape, the settings, the build, the device."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from toolkit.disk_cache import DiskCache, gpu_names, llama_build
from toolkit.memory import BufferBytes, Footprint, MemoryProbe, MemorySettings, by_device
from toolkit.memory_skeleton import Skeleton

_FORMAT = 1


class MemoryCache:
    """A folder of answers."""

    def __init__(self, folder: Path | None) -> None:
        self._kept = DiskCache(folder / "memory" if folder is not None else None)

    def get(self, skeleton: Skeleton, settings: MemorySettings) -> Footprint | None:
        """Return a kept answer, None if there is none."""
        document = self._kept.get(_key(skeleton, settings))
        try:
            return None if document is None else _parse(document)
        except (ValueError, TypeError, KeyError):
            return None

    def put(self, skeleton: Skeleton, settings: MemorySettings, footprint: Footprint) -> None:
        """Keep an answer."""
        self._kept.put(_key(skeleton, settings), _document(footprint))


def _key(skeleton: Skeleton, settings: MemorySettings) -> list[Any]:
    gpus = () if settings.device in ("cpu", "stand-in") else gpu_names()
    return [_FORMAT, skeleton.digest, asdict(settings), llama_build(), gpus]


class CachedProbe:
    """A MemoryProbe that is asked only what is not known; its child process starts with the first such question."""

    def __init__(self, probe: MemoryProbe, kept: MemoryCache) -> None:
        self._probe, self._kept = probe, kept
        self._known: dict[tuple[str, MemorySettings], Footprint] = {}
        self.asked = 0

    def ask(self, skeleton: Skeleton, settings: MemorySettings) -> Footprint:
        """Return the footprint of a model; see `MemoryProbe.probe` for what is raised."""
        key = (skeleton.digest, settings)
        # A server at an endpoint may be another one tomorrow, so its answers are not kept on disk.
        kept = self._kept if not settings.rpc else MemoryCache(None)
        if key not in self._known:
            found = kept.get(skeleton, settings)
            if found is None:
                self.asked += 1
                found = self._probe.probe(skeleton.path, settings)
                kept.put(skeleton, settings, found)
            self._known[key] = found
        return self._known[key]


def _document(footprint: Footprint) -> dict[str, Any]:
    buffers = [asdict(buffer) for device in footprint.devices for buffer in device.buffers]
    return {"answered_by": footprint.answered_by, "asked": footprint.asked, "buffers": buffers}


def _parse(document: dict[str, Any]) -> Footprint:
    buffers = [BufferBytes(**buffer) for buffer in document["buffers"]]
    return by_device(buffers, document["answered_by"], tuple(document["asked"]))
