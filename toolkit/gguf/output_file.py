"""An output that is whole or absent.

The bytes go to a work file in a folder of its own beside the output, and get the output's name only when they are complete and on
the disk. See `toolkit.gguf.scratch` for what becomes of the folder of a run that is killed.
"""

import ctypes
import errno
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from toolkit.errors import InputError, OutputError
from toolkit.gguf import set_journal
from toolkit.gguf.inputs import refuse_input
from toolkit.gguf.scratch import MARK, ScratchFolder, sweep
from toolkit.units import format_size

_NOTHING_LEFT = "nothing was left under the output's name"
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_NO_FALLOCATE = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES)
_NO_REPLACE, _HERE = 1, -100
"""RENAME_NOREPLACE and AT_FDCWD of Linux"""


class WorkFile:
    """A file of known length that threads write to at any offset; until its beginning is written, it is not a model."""

    def __init__(self, path: Path, n_bytes: int) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        self._lock = Lock()
        try:
            self.write(0, MARK[:n_bytes])
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
        """Reserve the space now, so that a full disk is an error before the work and not after it."""
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
    """Refuse an output that cannot be written, before any work is done for it; what killed runs left there goes first.

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
    place = where_it_lies(output)
    try:
        with ScratchFolder(output=place) as folder, opened_work(folder / folder.name, n_bytes) as work:
            with interrupts_noted():
                yield work
            work.close()
            publish(work.path, place, force=force)
    except OSError as error:
        raise described(error, output, n_bytes) from error


@contextmanager
def opened_work(path: Path, n_bytes: int) -> Iterator[WorkFile]:
    """Give a work file that is closed when the block ends."""
    with interrupts_noted():
        work = WorkFile(path, n_bytes)
    try:
        yield work
    finally:
        work.abandon()


@contextmanager
def interrupts_noted() -> Iterator[None]:
    """Note on an interrupt that no output was written, which is certain only until the output gets its name."""
    try:
        yield
    except KeyboardInterrupt as error:
        error.add_note(_NOTHING_LEFT)
        raise


def where_it_lies(output: Path) -> Path:
    """Return the file that an output's name leads to: what is written through a link replaces its target, and the link stays."""
    return Path(os.path.realpath(output)) if output.is_symlink() else output


def publish(work: Path, output: Path, *, force: bool) -> None:
    """Give a complete work file the output's name.

    Raises InputError if there is a file of that name by now and `force` is not set, OSError as the system does.
    """
    if force:
        os.replace(work, output)  # noqa: PTH105  Path.replace does the same; os.replace says that it overwrites
    else:
        try:
            _rename_to_free_name(work, output)
        except FileExistsError as error:
            raise InputError(f"{output} appeared while it was being written; give --force to replace it") from error
    _sync_folder(output.parent)


def publish_finished(file: Path, output: Path, *, force: bool) -> None:
    """Give a file that was written as a whole before, on the output's own disk, the output's name.

    Raises InputError or OutputError.
    """
    n_bytes = file.stat().st_size
    check_output(output, force=force)
    try:
        publish(file, where_it_lies(output), force=force)
    except OSError as error:
        raise described(error, output, n_bytes) from error


def _rename_to_free_name(work: Path, output: Path) -> None:
    """Rename only if the name is free, as one operation.

    Raises FileExistsError if it is not.
    """
    if sys.platform == "win32":
        work.rename(output)  # which refuses there to replace anything
        return
    if _renamed_by_the_kernel(work, output):
        return
    try:
        output.hardlink_to(work)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # There is no way to rename without replacing: the name is reserved first, by an empty file that may be replaced.
        if not (work.parent / set_journal.NAME).exists():
            set_journal.begin(work.parent, [(work, output.name)])
        os.close(os.open(output, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        work.rename(output)
        return
    work.unlink()


def _renamed_by_the_kernel(work: Path, output: Path) -> bool:
    """Rename without replacing by a call of Linux, and tell whether kernel and file system support it.

    Raises FileExistsError.
    """
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(_HERE, os.fsencode(work), _HERE, os.fsencode(output), _NO_REPLACE) == 0:
        return True
    if ctypes.get_errno() == errno.EEXIST:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(output))
    return False  # whatever else went wrong, a link will fail for it too


def described(error: OSError, output: Path, n_bytes: int) -> OutputError:
    """Return the OutputError for an error of the system while an output of `n_bytes` was written, which is removed by now."""
    if error.errno not in _NO_SPACE:
        return OutputError(f"cannot write {output}: {error.strerror or error}")
    needs = f"no space for {output.name}: needs {format_size(n_bytes)}"
    free = shutil.disk_usage(output.parent).free
    if error.errno == errno.EDQUOT:
        return OutputError(
            f"{needs}, more than your quota leaves in {output.parent}; remove files there, or write elsewhere"
        )
    if free >= n_bytes:
        return OutputError(
            f"{needs}; {format_size(free)} are free in {output.parent}, but a quota or a limit of files is reached"
        )
    return OutputError(f"{needs}, {format_size(free)} are free there")


def _check_place(output: Path, *, force: bool) -> None:
    folder = output.parent
    if not folder.is_dir():
        raise OutputError(f"the folder {folder} does not exist; create it first")
    _check_length(output)
    place = where_it_lies(output)
    sweep(place.parent, place)
    if output.is_dir():
        raise InputError(f"{output} is a directory; name a file in it")
    refuse_input(output)
    if os.path.lexists(output) and not output.is_file():
        # a rename would put a file in the place of a device, a pipe, or a link to nothing
        raise InputError(f"{output} is not a file but a device, a pipe or a broken link; name another output")
    if output.exists() and not force:
        raise InputError(f"{output} exists; give another name, or --force to replace it")
    if not os.access(place.parent, os.W_OK):
        raise OutputError(f"the folder {place.parent} is not writable; choose another output")


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
