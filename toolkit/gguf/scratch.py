"""Work folders, which the next run removes if their own run was killed.

Each has a name with the number of its process, a mark inside, and a lock on the mark for as long as the process lives. The
lock distinguishes leftovers from the work of other runs, also of those in containers, whose process numbers mean nothing here.
"""

import hashlib
import os
import re
import secrets
import shutil
import sys
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from enum import Enum
from pathlib import Path

import psutil

from toolkit.errors import OutputError
from toolkit.gguf import set_journal
from toolkit.gguf.format import MAGIC as GGUF_MAGIC

if sys.platform != "win32":
    import fcntl

MARK = b"gguf-toolkit work file of process "
_MARK_NAME = "mark"
_MANY = 100
_CLOCK_SLACK_SECONDS = 5.0
_NAME = re.compile(r"\.gguf-(?P<output>[0-9a-f]{8})-(?P<pid>\d+)-\d+\.part|\.?gguf-toolkit-(?P<owner>\d+)-[0-9a-f]{8}")


class ScratchFolder:
    """A folder that is removed when its block ends, with all that is in it.

    It lies in the system's folder for temporary files, in `parent`, or beside `output`, whose work it is then.
    """

    def __init__(self, parent: Path | None = None, *, output: Path | None = None) -> None:
        """Make the folder, and remove those that killed runs left beside it.

        Raises OutputError if a run that lives is writing `output`, OSError as the system does.
        """
        place = output.parent if output is not None else parent or Path(tempfile.gettempdir())
        sweep(place, output)
        hidden = "." if parent is not None else ""
        # Names are short, and without the output's own, so that long names work.
        names = (
            (f".gguf-{_digest(output)}-{os.getpid()}-{number}.part" for number in range(_MANY))
            if output is not None
            else (f"{hidden}gguf-toolkit-{os.getpid()}-{secrets.token_hex(4)}" for _ in range(_MANY))
        )
        self.path, fd = _new_folder(place, names)
        self._discard = weakref.finalize(self, _discard, self.path, fd)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the folder; one that is never closed is removed with the last reference to it."""
        self._discard()


def sweep(folder: Path, output: Path | None = None) -> None:
    """Remove what killed runs of this user left in a folder; a set that they named in part is taken back.

    Raises OutputError if a run that lives is writing `output`.
    """
    own = _digest(output) if output is not None else None
    try:
        work = [(path, match) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))]
    except OSError:
        return  # writing there will fail with a better message
    for path, match in work:
        is_own = own is not None and match["output"] == own
        owner = int(match["pid"] or match["owner"])
        if path.is_symlink() or not (is_own or _is_this_users(path)):
            continue
        try:
            state = _sweep_one(path, owner, is_own=is_own)
        except PermissionError:
            continue
        except OSError:
            if is_own:
                raise
            continue
        if is_own and output is not None and state is _Run.ALIVE:
            raise OutputError(f"process {owner} is writing {output.name} already; wait for it, or name another output")


def take_lock(fd: int) -> bool | None:
    """Lock a work file for as long as it is open, and tell whether that worked; None where there are no locks."""
    if sys.platform == "win32":
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


class _Run(Enum):
    """The run that a work file or folder belongs to."""

    ALIVE = "it is at work"
    GONE = "it was killed"
    NOBODYS = "the file is not a work file of this program"


def _sweep_one(path: Path, owner: int, *, is_own: bool) -> _Run:
    if path.is_dir():
        return _sweep_folder(path, owner, is_own=is_own)
    with _examined(path, owner, is_own=is_own) as run:
        if run is _Run.GONE:
            path.unlink(missing_ok=True)
    return run


def _sweep_folder(folder: Path, owner: int, *, is_own: bool) -> _Run:
    own_mark = folder / _MARK_NAME
    if not own_mark.exists():
        return _sweep_unmarked(folder, owner, is_own=is_own)
    with _examined(own_mark, owner, is_own=is_own) as run:
        if run is _Run.GONE:
            set_journal.take_back(folder)
            _remove_folder(folder)
    return run


def _sweep_unmarked(folder: Path, owner: int, *, is_own: bool) -> _Run:
    """Remove a folder whose run was killed before it could mark it, or that holds nothing but work files."""
    files = list(folder.iterdir())
    if files and is_own:
        with ExitStack() as stack:
            if all(stack.enter_context(_examined(file, owner, is_own=True)) is _Run.GONE for file in files):
                _remove_folder(folder)
    elif not _lives(owner, folder):
        with suppress(OSError):
            folder.rmdir()  # only if it is still empty
    return _Run.NOBODYS


@contextmanager
def _examined(path: Path, owner: int, *, is_own: bool) -> Iterator[_Run]:
    """Give the state of the run behind a marked file, and lock the file until the block ends."""
    if not path.is_file():
        yield _Run.NOBODYS
        return
    with path.open("r+b") as file:
        head = file.read(len(MARK))
        # An empty one was opened by a run that was killed before it could write, or is about to write.
        if not head.startswith((MARK, GGUF_MAGIC)) and (head or _lives(owner, path)):
            yield _Run.NOBODYS
            return
        locked = take_lock(file.fileno())
        if locked is None:
            # Process numbers mean something on one machine only: they are trusted where two runs would write the same file.
            locked = (is_own or sys.platform == "win32") and not _lives(owner, path)
        yield _Run.GONE if locked else _Run.ALIVE


def _lives(owner: int, path: Path) -> bool:
    """Tell whether a process with this number runs that is old enough to have made a file or folder."""
    try:
        return bool(psutil.Process(owner).create_time() <= path.stat().st_mtime + _CLOCK_SLACK_SECONDS)
    except psutil.Error:
        return False


def _new_folder(place: Path, names: Iterator[str]) -> tuple[Path, int]:
    """Make a marked folder, and return it with the mark's file descriptor."""
    for name in names:
        folder = place / name
        try:
            folder.mkdir(0o700)
        except FileExistsError:
            continue
        fd = _marked(folder)
        if fd is not None:
            return folder, fd
    raise OutputError(f"{place} is full of work folders; remove those whose names begin with .gguf- or gguf-toolkit-")


def _marked(folder: Path) -> int | None:
    """Mark a new folder; None if another run took it for a leftover and removed it."""
    try:
        fd = os.open(folder / _MARK_NAME, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except FileNotFoundError:
        return None
    try:
        if take_lock(fd) is not False:
            os.write(fd, MARK + str(os.getpid()).encode() + b"\n")
            if sys.platform == "win32" or os.fstat(fd).st_nlink:
                return fd
    except BaseException:
        os.close(fd)
        _remove_folder(folder)
        raise
    os.close(fd)
    return None


def _discard(folder: Path, fd: int) -> None:
    if sys.platform == "win32":
        os.close(fd)  # what is open cannot be removed there
        _remove_folder(folder)
        return
    _remove_folder(folder)
    os.close(fd)


def _remove_folder(folder: Path) -> None:
    """Remove a folder, its mark last: if that is interrupted or fails, a later run finds the folder by its mark."""
    with suppress(OSError):
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name not in (_MARK_NAME, set_journal.NAME):
                with suppress(OSError):
                    path.unlink()
        for name in (set_journal.NAME, _MARK_NAME):
            if {path.name for path in folder.iterdir()} <= {set_journal.NAME, _MARK_NAME}:
                (folder / name).unlink(missing_ok=True)
        folder.rmdir()


def _is_this_users(path: Path) -> bool:
    try:
        return not hasattr(os, "geteuid") or path.lstat().st_uid == os.geteuid()
    except OSError:
        return False


def _digest(output: Path) -> str:
    return hashlib.sha256(os.fsencode(output.name)).hexdigest()[:8]
