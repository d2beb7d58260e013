"""Transfers from the hub, which go on where they broke."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

Advance = Callable[[int], None]
"""advances by some bytes; fewer than none when a transfer starts anew"""
ATTEMPTS, TIMEOUT_SECONDS = 5, 30


class Counted:
    """Advances, and remembers how far, so that it can be taken back."""

    def __init__(self, advance: Advance) -> None:
        self._advance = advance
        self.total = 0

    def __call__(self, n_bytes: int) -> None:
        """Advance by some bytes."""
        self.total += n_bytes
        self._advance(n_bytes)


def download(repo: str, file: str, revision: str, advance: Advance, repo_type: str = "model") -> Path:
    """Bring a file into the cache, unless it is there, and return its path."""
    import huggingface_hub

    bar = _bar(advance)
    fetch = partial(huggingface_hub.hf_hub_download, repo, file, revision=revision, repo_type=repo_type)
    return Path(again(lambda: fetch(tqdm_class=bar)))


def read_range(repo: str, file: str, revision: str, start: int, stop: int) -> bytes:
    """Return the bytes [start, stop) of a file; fewer if it ends before."""
    found: bytes = again(lambda: _read_range(repo, file, revision, start, stop))
    return found


def _read_range(repo: str, file: str, revision: str, start: int, stop: int) -> bytes:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    url = hf_hub_url(repo, file, revision=revision)
    headers = {**build_hf_headers(), "Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
    with get_session().stream("GET", url, headers=headers, timeout=TIMEOUT_SECONDS) as response:
        if response.is_error:
            response.read()
        hf_raise_for_status(response)
        first = first_byte(response, start)
        data = bytearray()
        for piece in response.iter_bytes(1 << 16):
            data += piece
            if len(data) >= stop - first:
                break
    return bytes(data[start - first : stop - first])


def first_byte(response: Any, asked: int) -> int:
    """Return where in its file a response begins that was asked for a part: some servers send the whole file all the same.

    Raises OSError if it is another part.
    """
    if response.status_code != 206:
        return 0
    told = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    if told is not None and int(told[1]) != asked:
        raise OSError(f"a part from byte {int(told[1]):,} came instead of one from byte {asked:,}")
    return asked


def again(call: Callable[[], Any]) -> Any:
    """Call, and some more times where the network failed: a connection that is reset the library gives up at once."""
    from huggingface_hub import errors

    for _ in range(ATTEMPTS - 1):
        try:
            return call()
        except errors.HfHubHTTPError:
            raise
        except errors.HTTPError:  # what both its old and its new HTTP library call a fault of transport
            continue
    return call()


def _bar(advance: Advance) -> Any:
    """Return a class that passes on what the library shows on a progress bar, and shows nothing."""
    from huggingface_hub.utils import tqdm

    class Bar(tqdm):  # type: ignore[misc]  # the library is not typed here
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.counted = Counted(advance)
            super().__init__(*args, **{**kwargs, "disable": True})

        def update(self, n: float | None = 1) -> None:
            self.counted(int(n or 0))

        def __exit__(self, kind: Any, *rest: Any) -> None:
            if kind is not None:  # the next attempt counts from the start
                self.counted(-self.counted.total)
            super().__exit__(kind, *rest)

    return Bar
