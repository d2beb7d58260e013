"""Answers about memory, kept on disk under what they depend on: the model's shape, the settings, the build, the device."""

import hashlib
import importlib.util
import json
import os
import sys
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from toolkit.devices import list_gpus
from toolkit.memory import BufferBytes, Footprint, MemoryProbe, MemorySettings, by_device
from toolkit.memory_skeleton import Skeleton

VARIABLE = "GGUF_TOOLKIT_CACHE"
"""a folder, or `off`"""
_FORMAT = 1


def cache_folder() -> Path | None:
    """Return where answers are kept, None if they are not: $GGUF_TOOLKIT_CACHE, or the user's own cache folder."""
    asked = os.environ.get(VARIABLE)
    if asked is not None:
        return None if asked.lower() in ("off", "0", "") else Path(asked)
    if sys.platform == "darwin":
        return Path("~/Library/Caches/gguf-toolkit").expanduser()
    variable, otherwise = (
        ("LOCALAPPDATA", "~/AppData/Local") if sys.platform == "win32" else ("XDG_CACHE_HOME", "~/.cache")
    )
    return Path(os.environ.get(variable) or otherwise).expanduser() / "gguf-toolkit"


class MemoryCache:
    """A folder of answers; what cannot be read or written there is as good as absent."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder / "memory" if folder is not None else None

    def get(self, skeleton: Skeleton, settings: MemorySettings) -> Footprint | None:
        """Return a kept answer, None if there is none."""
        if self._folder is None:
            return None
        try:
            return _parse(json.loads(self._file(skeleton, settings).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def put(self, skeleton: Skeleton, settings: MemorySettings, footprint: Footprint) -> None:
        """Keep an answer."""
        if self._folder is None:
            return
        file = self._file(skeleton, settings)
        work = file.with_suffix(f".{os.getpid()}")
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            work.write_text(json.dumps(_document(footprint)), encoding="utf-8")
            work.replace(file)

    def _file(self, skeleton: Skeleton, settings: MemorySettings) -> Path:
        assert self._folder is not None
        gpus = () if settings.device in ("cpu", "stand-in") else _gpus()
        key = json.dumps([_FORMAT, skeleton.digest, asdict(settings), _build(), gpus])
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()}.json"


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


@cache
def _gpus() -> tuple[str, ...]:
    return tuple(f"{gpu.name} {gpu.total_bytes}" for gpu in list_gpus().gpus)


@cache
def _build() -> list[Any]:
    """Return what changes with every build of llama.cpp, and with the processor, whose features decide on repacking."""
    found = importlib.util.find_spec("llama_cpp")
    if found is None or found.origin is None:
        return [None, _processor()]
    libraries = sorted((Path(found.origin).parent / "lib").glob("*"))
    return [[(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in libraries], _processor()]


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(("flags", "Features")):
                return line
    return sys.platform
