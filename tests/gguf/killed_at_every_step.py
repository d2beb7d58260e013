"""A program that writes a set again and again, killed at another of its calls to the system each time.

Arguments: how many files, whether an old set is to be replaced, and what the file system can do. Prints a line for every kill as
JSON: what was under the outputs' names then, every other time what a run for another output made of it, and what a rerun did.
"""

import errno
import json
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from toolkit.errors import InputError
from toolkit.gguf import output_file
from toolkit.gguf.output_file import whole_or_absent
from toolkit.gguf.output_set import all_or_none
from toolkit.gguf.scratch import sweep

EVENTS = {
    "open",
    "os.rename",
    "os.link",
    "os.remove",
    "os.rmdir",
    "os.mkdir",
    "shutil.rmtree",
    "ctypes.dlsym",
    "fcntl.flock",
}


def names(count: int) -> list[str]:
    return ["m.gguf"] if count == 1 else [f"m-{number:05d}-of-{count:05d}.gguf" for number in range(1, count + 1)]


def write(folder: Path, count: int, content: bytes, *, force: bool) -> None:
    if count == 1:
        with whole_or_absent(folder / "m.gguf", len(content), force=force) as work:
            work.write(0, content)
        return
    with all_or_none([(folder / name, len(content)) for name in names(count)], force=force) as works:
        for work in works:
            work.write(0, content)


def killed(folder: Path, step: int, count: int, *, force: bool) -> bool:
    """Run a child that is killed at a step; tell whether it came to it."""
    child = os.fork()
    if child == 0:
        seen = [0]

        def hook(event: str, _: object) -> None:
            if event in EVENTS:
                seen[0] += 1
                if seen[0] > step:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        write(folder, count, b"new", force=force)
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def content_of(folder: Path, count: int) -> list[str]:
    return [path.read_text()[:3] if (path := folder / name).exists() else "" for name in names(count)]


def main(count: int, replacing: bool, ways: str) -> None:
    limit(ways)
    for step in range(1000):
        folder = Path(tempfile.mkdtemp())
        if replacing:
            write(folder, count, b"old", force=False)
        whole = not killed(folder, step, count, force=replacing)
        left = content_of(folder, count)
        if step % 2:
            sweep(folder)
        swept = content_of(folder, count), sorted({path.name for path in folder.iterdir()} - set(names(count)))
        try:
            write(folder, count, b"new", force=replacing)
            refused = ""
        except InputError as error:
            refused = str(error)
        again = content_of(folder, count), sorted({path.name for path in folder.iterdir()} - set(names(count)))
        kill = {"left": left, "swept": swept if step % 2 else None, "refused": refused, "again": again}
        sys.stdout.write(json.dumps(kill) + "\n")
        shutil.rmtree(folder)
        if whole:
            return


def limit(ways: str) -> None:
    """Take away what a file system may not have, and what only a fall of the whole machine needs."""

    def without_links(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    os.fsync = lambda _: None
    if ways != "everything":
        output_file.ctypes.CDLL = lambda *_, **__: object()  # type: ignore[assignment,misc]
    if ways == "no links":
        os.link = without_links


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2] == "replacing", sys.argv[3])
