"""An output that is whole or absent.

The bytes go to a work file beside the output and get the output's name only when they are complete and on the disk. The
work file's name is short and says nothing of the output's, so that long names work. It starts with a mark of ours, at the
end with GGUF's, and the process that writes it holds a lock on it: so a killed run's leftover can be told from a user's
file and from the work of a run that lives (also one in another container), and is removed by the next run.
"""

import errno
import hashlib
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

import psutil

from toolkit.errors import InputError, OutputError
from toolkit.gguf.format import MAGIC as GGUF_MAGIC
from toolkit.units import format_size

if sys.platform != "win32":
    import fcntl

MARK = b"gguf-toolkit work file of process "
NOTHING_LEFT = "nothing was left under the output's name"
"""what an interrupt is told to have done"""
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_NO_FALLOCATE = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)
_WORK_NAME = re.compile(r"\.gguf-[0-9a-f]{8}-(\d+)-\d+\.part")


class WorkFile:
    """A file of known length that threads write to at any offset."""

    def __init__(self, path: Path, n_bytes: int) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        self._lock = Lock()
        try:
            take_lock(self._fd)
            self.write(0, _mark()[:n_bytes])
            self._reserve(n_bytes)
        except BaseException:
            self.abandon()
            path.unlink(missing_ok=True)
            raise

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Write all of `data` at `offset`.

        Raises OSError, as the system does.
        """
        view = memoryview(data).cast("B")
        while view:
            written = self._write_some(offset, view)
            offset, view = offset + written, view[written:]

    def close(self) -> None:
        """Bring everything to the disk."""
        os.fsync(self._fd)
        self.abandon()

    def abandon(self) -> None:
        """Close the file as it is."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _write_some(self, offset: int, view: memoryview) -> int:
        if hasattr(os, "pwrite"):
            return os.pwrite(self._fd, view, offset)
        with self._lock:  # Windows has no pwrite
            os.lseek(self._fd, offset, os.SEEK_SET)
            return os.write(self._fd, view)

    def _reserve(self, n_bytes: int) -> None:
        """Take the space now, so that a full disk is found before the work and not after it."""
        try:
            if hasattr(os, "posix_fallocate") and n_bytes:
                os.posix_fallocate(self._fd, 0, n_bytes)
                return
        except OSError as error:
            if error.errno not in _NO_FALLOCATE:
                raise
        if shutil.disk_usage(self.path.parent).free < n_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.ftruncate(self._fd, n_bytes)


def check_output(output: Path, *, force: bool) -> None:
    """Refuse an output that cannot be written, before any work is done for it.

    Raises InputError if it exists and `force` is not set, OutputError if its folder is absent or not writable.
    """
    try:
        _check_place(output, force=force)
    except OSError as error:
        raise OutputError(f"cannot write {output}: {error.strerror or error}") from error


@contextmanager
def whole_or_absent(output: Path, n_bytes: int, *, force: bool = False) -> Iterator[WorkFile]:
    """Give a work file of `n_bytes`; when the block ends without an exception it becomes `output`, else it is removed.

    Raises InputError or OutputError, also for a disk that is full.
    """
    check_output(output, force=force)
    try:
        work = WorkFile(work_path(output), n_bytes)
    except OSError as error:
        raise described(error, output, n_bytes) from error
    try:
        yield work
        work.close()
        publish(work.path, output, force=force)
    except KeyboardInterrupt as error:
        error.add_note(NOTHING_LEFT)
        raise
    except OSError as error:
        raise described(error, output, n_bytes) from error
    finally:
        work.abandon()
        work.path.unlink(missing_ok=True)


def work_path(output: Path) -> Path:
    """Return a free name for a work file, after removing the leftovers of killed runs for the same output."""
    digest = hashlib.sha256(os.fsencode(output.name)).hexdigest()[:8]
    for path in output.parent.glob(f".gguf-{digest}-*.part"):
        _remove_leftover(path, output)
    names = (f".gguf-{digest}-{os.getpid()}-{number}.part" for number in range(100))
    free = next((name for name in names if not (output.parent / name).exists()), None)
    if free is None:
        raise OutputError(f"{output.parent} is full of files named .gguf-{digest}-*.part; remove them")
    return output.parent / free


def publish(work: Path, output: Path, *, force: bool) -> None:
    """Give a complete work file the output's name.

    Raises InputError if there is a file of that name by now and `force` is not set, OSError as the system does.
    """
    if force:
        os.replace(work, output)  # noqa: PTH105  Path.replace does the same; os.replace says that it overwrites
    elif output.exists():
        raise InputError(f"{output} appeared while it was being written; give --force to replace it")
    else:
        work.rename(output)
    _sync_folder(output.parent)


def described(error: OSError, output: Path, n_bytes: int) -> OutputError:
    """Return the error to raise for one of the system's, met while an output of `n_bytes` was written."""
    if error.errno in _NO_SPACE:
        free = shutil.disk_usage(output.parent).free
        return OutputError(
            f"no space for {output.name}: needs {format_size(n_bytes)}, {format_size(free)} are free there"
        )
    return OutputError(f"cannot write {output}: {error.strerror or error}")


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


def _check_place(output: Path, *, force: bool) -> None:
    folder = output.parent
    if not folder.is_dir():
        raise OutputError(f"the folder {folder} does not exist; create it first")
    _check_length(output)
    if output.is_dir():
        raise InputError(f"{output} is a directory; name a file in it")
    if os.path.lexists(output) and not output.is_file():
        # a rename would put a file in the place of a device, a pipe, or a link to nothing
        raise InputError(f"{output} is no file but a device, a pipe or a broken link; name another output")
    if output.exists() and not force:
        raise InputError(f"{output} exists; give another name, or --force to replace it")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"the folder {folder} is not writable; choose another output")


def _remove_leftover(path: Path, output: Path) -> None:
    """Remove a work file, or the folder of those of a set, that a killed run left."""
    name = _WORK_NAME.fullmatch(path.name)
    if name is None or path.is_symlink():
        return
    owner = int(name[1])
    if path.is_file() and _is_abandoned(path, owner, output):
        path.unlink(missing_ok=True)
    elif path.is_dir():
        files = list(path.iterdir())
        if all(_is_abandoned(file, owner, output) for file in files) and (files or not psutil.pid_exists(owner)):
            shutil.rmtree(path, ignore_errors=True)


def _is_abandoned(path: Path, owner: int, output: Path) -> bool:
    """Tell whether a file is one of ours that nobody writes to.

    Raises OutputError if somebody does.
    """
    if not path.is_file():
        return False
    with path.open("r+b") as file:
        if not file.read(len(MARK)).startswith((MARK, GGUF_MAGIC)):
            return False
        if not _owner_is_gone(file.fileno(), owner):
            raise OutputError(f"process {owner} is writing {output.name} already; wait for it, or name another output")
    return True


def _owner_is_gone(fd: int, owner: int) -> bool:
    locked = take_lock(fd)
    return not psutil.pid_exists(owner) if locked is None else locked


def _mark() -> bytes:
    return MARK + str(os.getpid()).encode() + b"\n"


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _check_length(output: Path) -> None:
    limit = os.pathconf(output.parent, "PC_NAME_MAX") if hasattr(os, "pathconf") else 255
    length = len(os.fsencode(output.name))
    if length > limit:
        raise InputError(f"the output's name has {length} bytes, more than the {limit} that this file system allows")
