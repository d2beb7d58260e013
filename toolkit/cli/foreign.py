"""The options that have a llama.cpp checkout's own converter read a checkpoint."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from toolkit.cli.common import Function, note, warn
from toolkit.cli.files import INPUT_FILE, INPUT_NAME

if TYPE_CHECKING:
    from toolkit.model_source import ModelSource


def converter_options(function: Function) -> Function:
    """Add `--converter` and `--converter-python`."""
    python = click.option(
        "--converter-python",
        type=INPUT_NAME,
        default=sys.executable,
        show_default="this one",
        help="Interpreter for --converter, with torch and what else that needs.",
    )
    converter = click.option(
        "--converter",
        type=INPUT_FILE,
        metavar="PATH",
        help="Checkout of llama.cpp whose own converter is run first: for architectures that are not known here.",
    )
    return converter(python(function))


def source_from_converter(directory: Path, output: Path | None, converter: Path, python: str) -> "ModelSource":
    """Return the model that somebody else's converter makes of a checkpoint.

    Its file lies beside `output` (a file, a folder, or None for the current folder) until the command ends.

    Raises InputError or EnvironmentFaultError.
    """
    from toolkit.sources.gguf_source import source_from_gguf
    from toolkit.sources.upstream_converter import find_converter, intermediate_file

    found = find_converter(converter, python)
    folder = Path() if output is None else output if output.is_dir() else output.parent
    warn(
        f"running {found.script} with {found.python}: a program that is no part of this toolkit, nor are its libraries; "
        f"it may do whatever you may. Its bf16 file lies in {folder.absolute()} until the end"
    )
    file = intermediate_file(found, directory, folder, lambda line: note(f"converter: {line}"))
    return source_from_gguf(click.get_current_context().with_resource(file))
