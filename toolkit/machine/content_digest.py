"""A digest of whole files, computed once and remembered for as long as their size and time stay the same."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from toolkit.machine.disk_cache import DiskCache, cache_folder
from toolkit.machine.host import physical_cores

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
