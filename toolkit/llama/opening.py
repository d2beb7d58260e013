"""Whether a GGUF file may be opened in this process: only after a child process has opened it whole.

llama.cpp ends the process over many a malformed file: equal tokens, counts that contradict each other, a graph that cannot
be built. So a child loads everything but the weights, the vocabulary too, and makes a context of the same settings. The
answer is kept on disk under what the file and the settings are, and the build of llama.cpp.
"""

import hashlib
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from toolkit import errors
from toolkit.errors import CrashError, EnvironmentFaultError, GgufError, ToolkitError
from toolkit.gguf.reader import files_to_load
from toolkit.llama.load_settings import LoadSettings
from toolkit.llama.offload_build import llama_build
from toolkit.machine.disk_cache import DiskCache, cache_folder
from toolkit.machine.host import child_environment

SMALL = LoadSettings(n_ctx=64, n_batch=64, n_ubatch=64, device="cpu")
"""for whom a context is of no importance"""
MAPPED_ALIGNMENT = 32
"""where llama.cpp lets tensors begin that it uses within a mapped file (`TENSOR_ALIGNMENT` of ggml)"""
OpenInChild = Callable[[Path, LoadSettings], "Opening"]
"""has a child open a file with these settings; raises what the child found"""
_FORMAT = 3
_HEAD_BYTES = 32 << 20
"""twice the largest header in use"""
_TIMEOUT_SECONDS = 600.0
_FAULTS = ("SIGABRT", "SIGSEGV", "SIGFPE", "SIGBUS", "SIGTRAP", "SIGSYS")
"""signals that tell of the code over a file, and not of somebody who wanted it to end"""
_WINDOWS_FAULTS = {0xC0000005: "SIGSEGV", 0xC0000409: "SIGABRT", 0xC0000094: "SIGFPE", 3: "SIGABRT"}
_TELLING = re.compile(r"GGML_ASSERT|GGML_ABORT|what\(\):|[Aa]ssertion|fatal error|error: ")
_BUILD_FOLDER = re.compile(r"^\S*/(?=[\w.-]+:\d+: )")


@dataclass(frozen=True)
class Opening:
    """What a child found of a file that opens."""

    can_be_mapped: bool


@dataclass
class _State:
    """What this process has to know of children."""

    expendable: bool = False
    """whether it is one itself"""
    children: tuple[OpenInChild, ...] = ()
    """that run already; the last is asked"""
    known: dict[str, Opening] = field(default_factory=dict)


_STATE = _State()


def check_opens(path: Path, settings: LoadSettings = SMALL) -> Opening:
    """Return what a child process, now or earlier, found that opened the whole file and made a context of these settings.

    Raises GgufError if llama.cpp refuses the file or dies of it, CrashError if the child was ended by something else, and
    EnvironmentFaultError if it gives no answer.
    """
    if _STATE.expendable:
        return Opening(can_be_mapped=True)
    asked = settings.context_on_cpu()
    key = [_FORMAT, [_identity(file) for file in files_to_load(path)], asdict(asked), llama_build()]
    name = json.dumps(key)
    if name not in _STATE.known:
        _STATE.known[name] = _looked_up(key) or _asked_and_kept(key, path, asked)
    return _STATE.known[name]


def check_can_be_mapped(path: Path, opening: Opening) -> None:
    """Raise GgufError for a file whose tensors begin where llama.cpp cannot use them as they lie."""
    if not opening.can_be_mapped:
        raise GgufError(
            f"{path}: its tensors do not begin at multiples of {MAPPED_ALIGNMENT} bytes, so llama.cpp cannot map it; --no-mmap reads "
            "it, and `quantize` or `merge` writes it anew"
        )


def _looked_up(key: Any) -> Opening | None:
    kept = DiskCache.below(cache_folder(), "opened").get(key)
    return Opening(kept["can_be_mapped"]) if isinstance(kept, dict) and kept.keys() == {"can_be_mapped"} else None


def _asked_and_kept(key: Any, path: Path, settings: LoadSettings) -> Opening:
    open_in_child = _STATE.children[-1] if _STATE.children else _open_in_new_child
    opening = open_in_child(path, settings)
    DiskCache.below(cache_folder(), "opened").put(key, asdict(opening))
    return opening


@contextmanager
def files_opened_by(open_in_child: OpenInChild) -> Iterator[None]:
    """Have a child that runs already open files within this context, instead of a new one for every file."""
    before = _STATE.children
    _STATE.children = (*before, open_in_child)
    try:
        yield
    finally:
        _STATE.children = before


def this_process_may_die() -> None:
    """Say that this is a child, which opens files itself."""
    _STATE.expendable = True


def opening_from(answer: dict[str, Any]) -> Opening:
    """Return what a child said, or raise it."""
    if "error" in answer:
        raise error_from(answer)
    return Opening(**answer)


def death_of(path: Path, code: int, messages: str) -> ToolkitError | None:
    """Return the error for a child that a signal ended over a file, None if none did.

    `code` is the process's exit code, negative for a signal; `messages` are what it left on stderr.
    """
    name = signal.Signals(-code).name if code < 0 else _WINDOWS_FAULTS.get(code) if sys.platform == "win32" else None
    if name is None:
        return None
    reason = telling_line(messages)
    detail = f": {reason}" if reason else ""
    if name in _FAULTS:
        return GgufError(
            f"{path}: llama.cpp ends in {name} over it{detail}; the file is malformed, make or download it again"
        )
    if name == "SIGILL":
        return CrashError(f"llama.cpp ends in {name}{detail}: it was built for another processor; build it again")
    return CrashError(
        f"llama.cpp was ended by {name} while it opened {path}{detail}; where nobody did that, memory ran out: close other programs"
    )


def telling_line(messages: str) -> str:
    """Return the line of a dying process that says why, without the folder that llama.cpp was built in."""
    lines = [line.strip() for line in messages.splitlines() if line.strip()]
    telling = [line for line in lines if _TELLING.search(line)] or lines
    return _BUILD_FOLDER.sub("", telling[-1]) if telling else ""


def error_from(answer: dict[str, Any]) -> ToolkitError:
    """Return the error that a child answered with."""
    kind: type[ToolkitError] = getattr(errors, answer["kind"], EnvironmentFaultError)
    return kind(answer["error"])


def _identity(file: Path) -> tuple[int, int, str]:
    """Return size, time of change and a digest of the beginning, which holds the header.

    Raises GgufError if the file cannot be read.
    """
    try:
        status = file.stat()
        return status.st_size, status.st_mtime_ns, _head_digest(file, status.st_ino, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise GgufError(f"{file}: cannot be read: {error.strerror or error}") from error


@lru_cache(maxsize=64)
def _head_digest(file: Path, *_status: int) -> str:
    with file.open("rb") as stream:
        return hashlib.sha256(stream.read(_HEAD_BYTES)).hexdigest()


def _open_in_new_child(path: Path, settings: LoadSettings) -> Opening:
    command = [sys.executable, "-m", "toolkit.llama.opening_child"]
    request = json.dumps({"path": str(path), "settings": asdict(settings)})
    try:
        done = subprocess.run(
            command,
            input=request,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env=child_environment(),
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise EnvironmentFaultError(f"{path}: llama.cpp did not open it within {_TIMEOUT_SECONDS:g} s") from error
    died = death_of(path, done.returncode, done.stderr)
    if died is not None:
        raise died
    if done.returncode:
        raise EnvironmentFaultError(
            f"{path}: llama.cpp could not be asked to open it (code {done.returncode}): {telling_line(done.stderr)}"
        )
    return opening_from(json.loads(done.stdout.splitlines()[-1]))
