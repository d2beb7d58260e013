"""The inputs of a command, which no output may overwrite: not by another name, by a link, or with --force.

A command opens one scope and says what it reads; every output is compared with that before a byte is written.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from toolkit.errors import InputError
from toolkit.gguf.shard_names import parts_beside

_READ: ContextVar[list[Path] | None] = ContextVar("read", default=None)


@contextmanager
def remembering_inputs() -> Iterator[None]:
    """Open a scope: what is read until the end of the block, or before it in a scope around it, cannot be written in it."""
    token = _READ.set(list(_READ.get() or ()))
    try:
        yield
    finally:
        _READ.reset(token)


def read_here(path: Path) -> None:
    """Remember that a file, the other parts of its set, or what a directory holds is read; does nothing outside a scope."""
    read = _READ.get()
    if read is not None:
        read.append(path)


def refuse_input(output: Path) -> None:
    """Refuse an output that is read in this scope, under whatever name.

    Raises InputError.
    """
    for path in filter(os.path.exists, _READ.get() or ()):
        same = next((file for file in _files(path) if _is_same(file, output)), None)
        if same is None:
            continue
        if path.is_dir():
            raise InputError(f"{output} is a file of {path}, which is read here; name another output")
        also = "" if same == output else f" (it is the same file as {same})"
        raise InputError(f"{output} is the input itself; name another output{also}")


def _files(path: Path) -> Iterator[Path]:
    """Give the files that are read where `path` is: of a checkpoint all but GGUF files, which lie there as outputs."""
    if not path.is_dir():
        yield path
        yield from parts_beside(path)
        return
    models_too = not (path / "config.json").exists()
    for file in path.rglob("*"):
        if models_too or file.suffix != ".gguf":
            yield file


def _is_same(file: Path, output: Path) -> bool:
    try:
        return file.is_file() and file.samefile(output)
    except OSError:
        return False  # a file that is missing, or has an impossible name, is refused elsewhere
