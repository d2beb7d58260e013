"""Large files of the cache, whose transfer goes on at the byte where it broke, also in a later run.

The library keeps what it has of a file only as long as the call lasts, and drops it when a connection is reset. So the
file is brought to where it would put it, through the name that interrupted downloads have there.
"""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

from toolkit.gguf.scratch import take_lock
from toolkit.hub.transfer import TIMEOUT_SECONDS, Advance, Counted, again, first_byte

LEAST_BYTES = 8 << 20
"""A smaller file is fetched again."""


def fetch_blob(repo: str, file: str, revision: str, advance: Advance) -> None:
    """Bring a large file into the cache's blobs; leave to the library whatever it does better or nobody can do safely."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.file_download import repo_folder_name

    # Without POSIX there are neither the locks nor the symbolic links that this rests on.
    if os.name != "posix":
        return
    url = hf_hub_url(repo, file, revision=revision)
    found = again(lambda: get_hf_file_metadata(url))
    if found.size is None or found.size < LEAST_BYTES or not _is_name(found.etag) or _has_own_protocol(found):
        return
    folder = Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=repo, repo_type="model"), "blobs")
    folder.mkdir(parents=True, exist_ok=True)
    _complete(url, folder / found.etag, found.size, advance)


def _is_name(etag: str | None) -> bool:
    return bool(etag) and Path(str(etag)).name == etag


def _has_own_protocol(found: Any) -> bool:
    """Tell whether the library would fetch a file by Xet, which has chunks and a cache of its own."""
    from huggingface_hub import constants

    return found.xet_file_data is not None and not constants.HF_HUB_DISABLE_XET and find_spec("hf_xet") is not None


def _complete(url: str, blob: Path, size: int, advance: Advance) -> None:
    partial = blob.with_name(f"{blob.name}.incomplete")
    with partial.open("ab", buffering=0) as file:
        if not take_lock(file.fileno()):
            return  # another process is at it
        if blob.exists():
            partial.unlink(missing_ok=True)
            return
        again(lambda: _go_on(url, file, size, advance))
        os.fsync(file.fileno())
        partial.replace(blob)


def _go_on(url: str, file: BinaryIO, size: int, advance: Advance) -> None:
    """Append what is lacking."""
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    start = file.seek(0, os.SEEK_END)
    if start > size:
        start = file.truncate(0)
    counted = Counted(advance)
    counted(start)
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
                counted(-start)
            for piece in response.iter_bytes():
                file.write(piece)
                counted(len(piece))
    except BaseException:
        counted(-counted.total)
        raise
    if file.tell() != size:
        raise OSError(f"{size:,} bytes were promised, {file.tell():,} came; try again")
