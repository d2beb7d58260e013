"""Join the files of a split model into the one that they were cut from."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from toolkit.errors import InputError
from toolkit.gguf.layout import Layout, lay_out
from toolkit.gguf.output_file import whole_or_absent
from toolkit.gguf.reader import GgufFile, read_gguf
from toolkit.machine.mapped_files import as_mapped, unchanged
from toolkit.reporter import SILENT_TASK, Task

STEP_BYTES = 1 << 24


@dataclass(frozen=True)
class Merge:
    """A split model, and where everything will lie in one file."""

    source: GgufFile
    layout: Layout


def plan_merge(path: Path) -> Merge:
    """Return how the set that `path` is one of would be joined.

    Raises GgufError if a part is missing or damaged, InputError if the model is one file already.
    """
    file = read_gguf(path)
    if len(file.paths) == 1:
        raise InputError(f"{path} is one whole file already; name one of a set called NAME-00001-of-00009.gguf")
    return Merge(file, lay_out(file.metadata, file.shaped_tensors))


def write_merged(
    merge: Merge,
    output: Path,
    check: Callable[[Path], None],
    *,
    force: bool = False,
    task: Task = SILENT_TASK,
) -> None:
    """Write the joined file under `output`, whole or not at all; the parts stay. `task` advances by bytes.

    Raises InputError or OutputError if the output cannot be written, InputError if a part changes meanwhile.
    """
    files = as_mapped(merge.source.paths)
    with whole_or_absent(output, merge.layout.file_bytes, force=force) as work:
        for rows, offset in zip(merge.source.tensors.values(), merge.layout.offsets, strict=True):
            for start in range(0, rows.data.nbytes, STEP_BYTES):
                piece = rows.data[start : start + STEP_BYTES]
                with unchanged(files):
                    work.write(offset + start, piece.data)
                task.advance(piece.nbytes)
        work.write(0, merge.layout.header)
        check(work.path)
