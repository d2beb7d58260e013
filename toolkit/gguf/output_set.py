"""Several outputs that appear together or not at all.

Their work files bear the outputs' names in a folder of their own beside them, so that what reads a set by its names can look
at it before it is published. They are renamed one after the other once all are complete, the first one last: whoever opens
the first file finds the others.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from toolkit.gguf.output_file import NOTHING_LEFT, WorkFile, check_output, described, publish, work_path


@contextmanager
def all_or_none(outputs: Sequence[tuple[Path, int]], *, force: bool = False) -> Iterator[list[WorkFile]]:
    """Give a work file for each (path, bytes) in one folder; when the block ends without an exception they become the outputs.

    Raises InputError or OutputError, also for a disk that is full.
    """
    for output, _ in outputs:
        check_output(output, force=force)
    first, total = outputs[0][0], sum(n_bytes for _, n_bytes in outputs)
    works: list[WorkFile] = []
    folder = work_path(first)
    try:
        folder.mkdir()
        for output, n_bytes in outputs:
            works.append(WorkFile(folder / output.name, n_bytes))
        yield works
        for work in works:
            work.close()
        _publish_all(works, [output for output, _ in outputs], force=force)
    except KeyboardInterrupt as error:
        error.add_note(NOTHING_LEFT)
        raise
    except OSError as error:
        _discard(works, folder)  # before it is told how much is free
        raise described(error, first, total) from error
    finally:
        _discard(works, folder)


def _discard(works: Sequence[WorkFile], folder: Path) -> None:
    for work in works:
        work.abandon()
    shutil.rmtree(folder, ignore_errors=True)


def _publish_all(works: Sequence[WorkFile], outputs: Sequence[Path], *, force: bool) -> None:
    published: list[Path] = []
    try:
        for work, output in reversed(list(zip(works, outputs, strict=True))):
            publish(work.path, output, force=force)
            published.append(output)
    except BaseException:
        for output in published:
            output.unlink(missing_ok=True)
        raise
