"""The types of all arguments and options that name files: each says whether it is read or written.

With that, one rule holds for every command: what it reads is never what it writes, and no two outputs are one file.
"""

import os
from pathlib import Path
from typing import Any

import click

from toolkit.demo import DEMO
from toolkit.errors import InputError, OutputError
from toolkit.gguf.inputs import read_here, refuse_input

_OUTPUTS = "toolkit.cli.files.outputs"


class InputPath(click.Path):
    """A file that is read, or a folder: then what it holds."""

    def __init__(self, *, folders: bool = True) -> None:
        super().__init__(path_type=Path)
        self._folders = folders

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path, and keep outputs away from it."""
        path = Path(str(super().convert(value, param, ctx)))
        if self._folders or _kind(path) == "file":
            _read(path, ctx)
        return path


class InputName(click.ParamType):  # type: ignore[type-arg]  # older click is not generic
    """Text that may name files which are read: one, one after an equals sign, or several with commas between them."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text, and keep outputs away from the file."""
        text = str(value)
        for name in {text, text.partition("=")[2], *text.split(",")}:
            if _kind(Path(name)) == "file":
                _read(Path(name), ctx)
        return text


class SourceName(click.ParamType):  # type: ignore[type-arg]
    """Text that names a model: a file, a folder, `demo`, or a model on the hub."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text, and keep outputs away from what lies here; `resolve_source` does it for what lies elsewhere."""
        if value != DEMO and _kind(Path(value)):
            _read(Path(value), ctx)
        return str(value)


class OutputPath(click.Path):
    """A file that is written, or a folder for it."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path.

        Raises InputError if it is read, or another output's, OutputError if it names a folder that is not there.
        """
        path = Path(str(super().convert(value, param, ctx)))
        self._check_folder(str(value), path)
        refuse_input(path)
        others = _outputs(ctx)
        place = os.path.realpath(path)
        twice = next((name for other, name in others if other == place), None)
        if twice is not None:
            raise InputError(
                f"{path} is given twice: for {twice} and for {_name(param)}; give each output its own name"
            )
        others.append((place, _name(param)))
        return path

    def _check_folder(self, text: str, path: Path) -> None:
        if text.endswith((os.sep, os.altsep or os.sep)) and _kind(path) != "folder":
            if _kind(path) == "file":
                raise InputError(f"{text} names a folder, but {path} is a file; leave out the {os.sep} at its end")
            raise OutputError(f"the folder {text} does not exist; create it first")


class OutputFolder(OutputPath):
    """A folder that files are written to; it is made if it is absent."""

    def _check_folder(self, text: str, path: Path) -> None:
        if _kind(path) == "file":
            raise InputError(f"{text} is a file; name a folder")


INPUT, INPUT_FILE = InputPath(), InputPath(folders=False)
INPUT_NAME = InputName()
SOURCE = SourceName()
OUTPUT = OutputPath()
OUTPUT_FOLDER = OutputFolder()


def refuse_existing(output: Path | None, *, force: bool) -> None:
    """Refuse an output that cannot be written before a model is loaded for it.

    Raises InputError or OutputError.
    """
    from toolkit.gguf.output_file import check_output

    if output is not None:
        check_output(output, force=force)


def _read(path: Path, ctx: click.Context | None) -> None:
    read_here(path)
    for output, _ in _outputs(ctx):
        refuse_input(Path(output))


def _kind(path: Path) -> str:
    """Return whether something here is a folder or a file of any kind; nothing where there is neither, or cannot be."""
    try:
        return "folder" if path.is_dir() else "file" if path.exists() else ""
    except (OSError, ValueError, RuntimeError):  # a name that is too long, or a link to itself
        return ""


def _outputs(ctx: click.Context | None) -> list[tuple[str, str]]:
    """Return the outputs that were named so far, each with the option that named it."""
    found: list[tuple[str, str]] = [] if ctx is None else ctx.meta.setdefault(_OUTPUTS, [])
    return found


def _name(param: click.Parameter | None) -> str:
    if param is None:
        return "an output"
    return max(param.opts, key=len) if isinstance(param, click.Option) else str(param.human_readable_name)
