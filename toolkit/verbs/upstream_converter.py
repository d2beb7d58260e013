"""A checkpoint read by a llama.cpp checkout's own converter: for architectures that are not known here."""

from contextlib import ExitStack
from pathlib import Path

from toolkit.model_source import ModelSource
from toolkit.reporter import Reporter
from toolkit.sources.gguf_source import source_from_gguf
from toolkit.sources.upstream_converter import find_converter, intermediate_file


def source_from_converter(  # noqa: PLR0913, PLR0917  # a converter, what it reads, and where its file lies
    directory: Path, output: Path | None, converter: Path, python: str, reporter: Reporter, scratch: ExitStack
) -> ModelSource:
    """Return the model that llama.cpp's converter makes of a checkpoint.

    Its file lies beside `output` (a file, a folder, or None for the current folder) until `scratch` closes.

    Raises InputError or EnvironmentFaultError.
    """
    upstream = find_converter(converter, python)
    folder = Path() if output is None else output if output.is_dir() else output.parent
    reporter.warn(
        f"running {upstream.script} with {upstream.python}: a program that is not part of this toolkit, and neither are its "
        f"libraries; it may do whatever you may. Its bf16 file is in {folder.absolute()} until the end"
    )
    file = intermediate_file(upstream, directory, folder, lambda line: reporter.note(f"converter: {line}"))
    return source_from_gguf(scratch.enter_context(file))
