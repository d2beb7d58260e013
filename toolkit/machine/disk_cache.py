"""Results that are kept on disk under everything that they depend on, such as the digest of the files they come from."""

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Self

from toolkit.machine.host import physical_cores

VARIABLE = "GGUF_TOOLKIT_CACHE"
"""a folder, or `off`"""


def cache_folder() -> Path | None:
    """Return where results are kept, None if they are not: $GGUF_TOOLKIT_CACHE, or the user's own cache folder."""
    asked = os.environ.get(VARIABLE)
    if asked is not None:
        return None if asked.lower() in ("off", "0", "") else Path(asked)
    if sys.platform == "darwin":
        return Path("~/Library/Caches/gguf-toolkit").expanduser()
    variable, otherwise = (
        ("LOCALAPPDATA", "~/AppData/Local") if sys.platform == "win32" else ("XDG_CACHE_HOME", "~/.cache")
    )
    return Path(os.environ.get(variable) or otherwise).expanduser() / "gguf-toolkit"


class DiskCache:
    """A folder of JSON documents by key, each under a digest of its text.

    A document that cannot be read or written, or was changed since, counts as absent.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    @classmethod
    def below(cls, folder: Path | None, name: str) -> Self:
        """Return the cache in a folder of that name below another; without that folder nothing is kept."""
        return cls(folder / name if folder is not None else None)

    def get(self, key: Any) -> Any:
        """Return a kept document, None if there is none."""
        if self._folder is None:
            return None
        with suppress(OSError, ValueError, RecursionError):
            digest, _, text = self._file(self._folder, key).read_text(encoding="utf-8").partition("\n")
            return json.loads(text) if digest == _digest(text) else None
        return None

    def put(self, key: Any, document: Any) -> None:
        """Keep a document under a key, which may be anything that JSON can hold."""
        if self._folder is None:
            return
        file = self._file(self._folder, key)
        work = file.with_suffix(f".{os.getpid()}")
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            text = json.dumps(document)
            work.write_text(f"{_digest(text)}\n{text}", encoding="utf-8")
            work.replace(file)

    @staticmethod
    def _file(folder: Path, key: Any) -> Path:
        return folder / f"{_digest(json.dumps(key))}.json"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


_BLOCK_BYTES = 32 << 20


def content_digest(paths: Sequence[Path]) -> str:
    """Return a digest of the bytes of files, in this order; their names do not count.

    It is the SHA-256 of the SHA-256 of every block, so that all cores take part. Raises OSError if one cannot be read.
    """
    digests = [_file_digest(path) for path in paths]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _file_digest(path: Path) -> str:
    state, remembered = path.stat(), DiskCache.below(cache_folder(), "digests")
    key = [_BLOCK_BYTES, str(path.resolve()), state.st_size, state.st_mtime_ns]
    known = remembered.get(key)
    if isinstance(known, str):
        return known
    with ThreadPoolExecutor(physical_cores()) as pool:
        blocks = pool.map(partial(_block_digest, path), range(0, state.st_size, _BLOCK_BYTES))
        digest = hashlib.sha256(b"".join(blocks)).hexdigest()
    remembered.put(key, digest)
    return digest


def _block_digest(path: Path, start: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return hashlib.sha256(file.read(_BLOCK_BYTES)).digest()
