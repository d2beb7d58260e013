"""Transfers from the hub: what goes wrong with them is one line that says what to do.

`read_range` is written by hand because HfFileSystem (huggingface_hub 2.4) takes any answer for the range that it asked for:
behind a proxy that ignores Range headers it would return other bytes, after it read the whole file into memory.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from toolkit.errors import HubError, InputError
from toolkit.hub.model import HubModel
from toolkit.reporter import SILENT_TASK, Task

ATTEMPTS, TIMEOUT_SECONDS = 5, 30


class Attempt:
    """One attempt at a transfer: its progress can be taken back when the next attempt starts anew."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._n_bytes = 0

    def advance(self, n_bytes: int) -> None:
        """Count further bytes; a negative number takes some back."""
        self._n_bytes += n_bytes
        self._task.advance(n_bytes)

    def take_back(self) -> None:
        """Take back all progress of this attempt."""
        self.advance(-self._n_bytes)


def download(repo: str, file: str, revision: str, task: Task = SILENT_TASK, repo_type: str = "model") -> Path:
    """Bring a file into the cache, unless it is there, and return its path."""
    import huggingface_hub

    bar = _bar(task)
    fetch = partial(huggingface_hub.hf_hub_download, repo, file, revision=revision, repo_type=repo_type)
    return Path(again(lambda: fetch(tqdm_class=bar)))


def read_range(repo: str, file: str, revision: str, start: int, stop: int) -> bytes:
    """Return the bytes [start, stop) of a file; fewer if it ends before."""
    data: bytes = again(lambda: _read_range(repo, file, revision, start, stop))
    return data


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
    """Return the offset in the file at which a response begins that was asked for a part from byte `asked` on.

    Some servers send the whole file instead. Raises OSError for another part.
    """
    if response.status_code != 206:
        return 0
    content_range = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    if content_range is not None and int(content_range[1]) != asked:
        raise OSError(f"a part from byte {int(content_range[1]):,} came instead of one from byte {asked:,}")
    return asked


def again(call: Callable[[], Any]) -> Any:
    """Call, and repeat that where the network failed: the library itself does not when a connection is reset."""
    from huggingface_hub import errors

    for _ in range(ATTEMPTS - 1):
        try:
            return call()
        except errors.HfHubHTTPError:
            raise
        except errors.HTTPError:  # what both its old and its new HTTP library call a fault of transport
            continue
    return call()


def _bar(task: Task) -> Any:
    """Return a class that passes on what the library shows on a progress bar, and shows nothing."""
    from huggingface_hub.utils import tqdm

    class Bar(tqdm):  # type: ignore[misc]  # the library is not typed here
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.attempt = Attempt(task)
            super().__init__(*args, **{**kwargs, "disable": True})

        def update(self, n: float | None = 1) -> None:
            self.attempt.advance(int(n or 0))

        def __exit__(self, kind: Any, *rest: Any) -> None:
            if kind is not None:
                self.attempt.take_back()
            super().__exit__(kind, *rest)

    return Bar


@contextmanager
def hub_errors(model: HubModel) -> Iterator[None]:
    """Turn what the library raises within the block into a HubError or InputError of one line that says what to do."""
    from huggingface_hub import errors

    place = f"https://huggingface.co/{model.repo}"
    try:
        yield
    except errors.GatedRepoError as error:
        raise HubError(f"{model} is gated: {_how_to_get_in(place)}") from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise InputError(
            f"{model.repo} is neither a directory here nor a model on the hub that you may see: check the spelling; "
            "for a private one run `hf auth login`, or set HF_TOKEN"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise InputError(f"{model.repo} has no revision {model.revision!r}; see {place}/tree/main") from error
    except errors.RemoteEntryNotFoundError as error:
        raise HubError(f"a file of {model} is gone from the hub: {reason(error)}; try again") from error
    except (errors.HTTPError, OSError) as error:
        raise HubError(f"{model} cannot be fetched from the hub: {reason(error)}") from error


def _how_to_get_in(place: str) -> str:
    from huggingface_hub import get_token

    if get_token() is None:
        return f"accept its licence at {place}, then run `hf auth login`, or set HF_TOKEN"
    return (
        f"your token's account has no access: accept its licence at {place} and wait for approval if it asks for that"
    )


def reason(error: Exception) -> str:
    """Return the first line of the error behind one of the library's, whose own text is advice rather than a reason."""
    cause = error.__cause__ or error
    response = getattr(cause, "response", None)
    if response is not None:
        return f"HTTP status {response.status_code} from {response.url.host}"
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(cause).__name__
