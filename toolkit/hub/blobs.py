"""Large files of the cache, whose transfer goes on at the byte where it broke, also in a later run.

By hand, because the library (huggingface_hub 2.4) resumes only while the call lasts: it deletes what came of a file when the
process ends or a connection is reset, and takes any part of a file for the one that it asked for. A complete file is put
under `blobs/ETAG`, where the cache's published layout has it; links, locks and revisions stay the library's. Layout:
https://huggingface.co/docs/hub/local-cache
"""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

from toolkit.gguf.scratch import take_lock
from toolkit.hub.model import cache_name
from toolkit.hub.transfer import TIMEOUT_SECONDS, Attempt, again, first_byte
from toolkit.reporter import Task

LEAST_BYTES = 8 << 20
"""A smaller file is fetched again."""


def fetch_blob(repo: str, file: str, revision: str, task: Task) -> None:
    """Bring a large file into the cache's blobs; leave to the library small files, Xet, and systems without POSIX locks."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url

    # Without POSIX there are neither the locks nor the symbolic links that this rests on.
    if os.name != "posix":
        return
    url = hf_hub_url(repo, file, revision=revision)
    file_metadata = again(lambda: get_hf_file_metadata(url))
    size, etag = file_metadata.size, file_metadata.etag
    if size is None or size < LEAST_BYTES or not _is_name(etag) or _is_fetched_by_xet(file_metadata):
        return
    folder = Path(constants.HF_HUB_CACHE, cache_name(repo), "blobs")
    folder.mkdir(parents=True, exist_ok=True)
    _complete(url, folder / etag, size, task)


def _is_name(etag: str | None) -> bool:
    return bool(etag) and Path(str(etag)).name == etag


def _is_fetched_by_xet(file_metadata: Any) -> bool:
    """Tell whether the library would fetch a file by Xet, which has chunks and a cache of its own."""
    from huggingface_hub import constants

    return (
        file_metadata.xet_file_data is not None and not constants.HF_HUB_DISABLE_XET and find_spec("hf_xet") is not None
    )


def _complete(url: str, blob: Path, size: int, task: Task) -> None:
    partial = blob.with_name(f"{blob.name}.incomplete")
    with partial.open("ab", buffering=0) as file:
        if not take_lock(file.fileno()):
            return  # another process fetches it
        if blob.exists():
            partial.unlink(missing_ok=True)
            return
        again(lambda: _append_rest(url, file, size, task))
        os.fsync(file.fileno())
        partial.replace(blob)


def _append_rest(url: str, file: BinaryIO, size: int, task: Task) -> None:
    """Append what the file lacks."""
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    start = file.seek(0, os.SEEK_END)
    if start > size:
        start = file.truncate(0)
    attempt = Attempt(task)
    attempt.advance(start)
    if start == size:
        return
    headers = {**build_hf_headers(), "Range": f"bytes={start}-", "Accept-Encoding": "identity"}
    try:
        with get_session().stream("GET", url, headers=headers, timeout=TIMEOUT_SECONDS) as response:
            if response.is_error:
                response.read()
            hf_raise_for_status(response)
            if first_byte(response, start) < start:
                file.truncate(0)
                attempt.advance(-start)
            for piece in response.iter_bytes():
                file.write(piece)
                attempt.advance(len(piece))
    except BaseException:
        attempt.take_back()
        raise
    if file.tell() != size:
        raise OSError(f"{size:,} bytes were promised, {file.tell():,} came; try again")
