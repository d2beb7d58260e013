"""llama.cpp's own converter, run from a checkout, for architectures that are not supported here.

It is another program, with an interpreter and libraries of its own; all that is taken from it is one GGUF file in bf16,
which is checked like any other and removed at the end.
"""

import shutil
import subprocess
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from toolkit.checkpoint.checkpoint import open_checkpoint
from toolkit.errors import EnvironmentFaultError, InputError, OutputError
from toolkit.gguf.ggml_types import BF16
from toolkit.gguf.output_file import check_output
from toolkit.gguf.rows import row_count
from toolkit.gguf.scratch import ScratchFolder
from toolkit.model_source import ModelSource
from toolkit.reporter import Reporter
from toolkit.sources.gguf_source import source_from_gguf
from toolkit.units import format_size

SCRIPT = "convert_hf_to_gguf.py"


@dataclass(frozen=True)
class UpstreamConverter:
    """A script and the interpreter that runs it."""

    script: Path
    python: str

    def command(self, checkpoint: Path, folder: Path) -> list[str]:
        """Return the command that writes a bf16 file, called as llama.cpp calls it, into a folder."""
        return [
            self.python, str(self.script.absolute()), str(checkpoint.absolute()),
            "--outtype", "bf16", "--outfile", str(folder.absolute()),
        ]  # fmt: skip


def find_converter(path: Path, python: str) -> UpstreamConverter:
    """Return the converter of a llama.cpp checkout, or the one that `path` is.

    Raises InputError if there is no such script, EnvironmentFaultError if there is no such interpreter.
    """
    script = path / SCRIPT if path.is_dir() else path
    if not script.is_file():
        raise InputError(f"--converter {path}: {script} does not exist; give a checkout of llama.cpp, or its {SCRIPT}")
    interpreter = shutil.which(python)
    if interpreter is None:
        raise EnvironmentFaultError(f"--converter-python {python}: there is no such program")
    return UpstreamConverter(script, interpreter)


def source_from_converter(
    checkpoint: Path, output: Path | None, converter: UpstreamConverter, reporter: Reporter, scratch: ExitStack
) -> ModelSource:
    """Return the model that llama.cpp's converter makes of a checkpoint.

    Its file lies beside `output` (a file, a folder, or None for the current folder) until `scratch` closes.

    Raises OutputError if the disk has no space for the file, InputError or EnvironmentFaultError if the converter fails.
    """
    folder = Path() if output is None else output if output.is_dir() else output.parent
    reporter.warn(
        f"running {converter.script} with {converter.python}: a program that is not part of this toolkit, and neither are its "
        f"libraries; it may do whatever you may. Its bf16 file is in {folder.absolute()} until the end"
    )
    return source_from_gguf(scratch.enter_context(_intermediate_file(converter, checkpoint, folder, reporter)))


@contextmanager
def _intermediate_file(
    converter: UpstreamConverter, checkpoint: Path, folder: Path, reporter: Reporter
) -> Iterator[Path]:
    """Run the converter and give the file that it made, below `folder`; it is removed at the end."""
    needed = bf16_bytes(checkpoint)
    named = folder / f"{checkpoint.resolve().name}.bf16"
    check_output(named, force=True)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OutputError(
            f"no space for the converter's bf16 file in {folder}: needs about {format_size(needed)}, "
            f"{format_size(free)} are free there"
        )
    with ScratchFolder(output=named) as place:
        _run(converter, checkpoint, place, reporter)
        yield _only_file(converter, place)


def bf16_bytes(checkpoint: Path) -> int:
    """Return about how many bytes a checkpoint takes in bf16.

    Raises CheckpointError if it cannot be read.
    """
    tensors = open_checkpoint(checkpoint).tensors.values()
    return sum(row_count(tensor.shape) * BF16.row_bytes(tensor.shape[-1]) for tensor in tensors if tensor.shape)


def _run(converter: UpstreamConverter, checkpoint: Path, folder: Path, reporter: Reporter) -> None:
    last: deque[str] = deque(maxlen=1)
    try:
        process = subprocess.Popen(
            converter.command(checkpoint, folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
    except OSError as error:
        raise EnvironmentFaultError(f"{converter.python} cannot be run: {error.strerror or error}") from error
    with process:
        try:
            for line in process.stdout or ():
                if line.strip():
                    last.append(line.strip())
                    reporter.note(f"converter: {line.rstrip()}")
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        raise InputError(_failure(converter, process.returncode, last))


def _failure(converter: UpstreamConverter, status: int, last: Sequence[str]) -> str:
    last_line = f": {last[0][:300]}" if last else " without a message"
    advice = ""
    if last and "ModuleNotFoundError" in last[0]:
        advice = "; name an interpreter that has its requirements with --converter-python"
    return f"{converter.script} failed with status {status}{last_line}{advice}"


def _only_file(converter: UpstreamConverter, folder: Path) -> Path:
    files = sorted(folder.glob("*.gguf"))
    if len(files) != 1:
        raise InputError(f"{converter.script} left {len(files)} GGUF files where one was expected")
    return files[0]
