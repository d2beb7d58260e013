"""Several outputs that appear together or not at all.

Their work files bear the outputs' names in a folder of their own beside them, so that a check can read the
set by its names before it is published. They are renamed one after the other once all are complete, the first one last: whoever opens
the first file finds the others. What a killed run leaves is incomplete, and the next run takes it back.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from toolkit.errors import InputError
from toolkit.gguf import set_journal
from toolkit.gguf.output_file import WorkFile, check_output, described, interrupts_noted, opened_work, publish
from toolkit.gguf.scratch import ScratchFolder


@contextmanager
def all_or_none(outputs: Sequence[tuple[Path, int]], *, force: bool = False) -> Iterator[list[WorkFile]]:
    """Give a work file for each (path, bytes) in one folder; when the block ends without an exception they become the outputs.

    Raises InputError or OutputError, also for a disk that is full.
    """
    paths, total = [output for output, _ in outputs], sum(n_bytes for _, n_bytes in outputs)
    for output in paths:
        _check(output, force=force)
    try:
        with ScratchFolder(output=paths[0]) as folder, ExitStack() as stack:
            works = [stack.enter_context(opened_work(folder / path.name, n_bytes)) for path, n_bytes in outputs]
            with interrupts_noted():
                yield works
            for work in works:
                work.close()
            _publish_all(folder, works, paths, force=force)
    except OSError as error:
        raise described(error, paths[0], total) from error


def _check(output: Path, *, force: bool) -> None:
    check_output(output, force=force)
    if output.is_symlink():
        raise InputError(
            f"{output} is a link, and the files of a set lie in one folder; remove it, or name another output"
        )


def _publish_all(folder: Path, works: Sequence[WorkFile], outputs: Sequence[Path], *, force: bool) -> None:
    seal_last = [work.path for work in reversed(works)]
    set_journal.begin(folder, [(work, work.name) for work in seal_last])
    try:
        if force:
            set_journal.set_aside(folder, outputs)
        for work in seal_last:
            publish(work, folder.with_name(work.name), force=force)
    except BaseException:
        set_journal.take_back(folder)
        raise
