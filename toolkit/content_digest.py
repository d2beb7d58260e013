"""A digest of whole files, computed once and remembered for as long as their size and time stay the same."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from toolkit.devices import physical_cores
from toolkit.disk_cache import DiskCache, cache_folder

_BLOCK_BYTES = 8 << 20


def content_digest(paths: Sequence[Path]) -> str:
    """Return the SHA-256 of files, in this order; their names do not count.

    Raises OSError if one cannot be read.
    """
    with ThreadPoolExecutor(physical_cores()) as pool:
        digests = list(pool.map(_file_digest, paths))
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _file_digest(path: Path) -> str:
    state, folder = path.stat(), cache_folder()
    remembered = DiskCache(folder / "digests" if folder is not None else None)
    key = [str(path.resolve()), state.st_size, state.st_mtime_ns]
    known = remembered.get(key)
    if isinstance(known, str):
        return known
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    remembered.put(key, digest.hexdigest())
    return digest.hexdigest()
