"""What SRC means on the command line, for the commands whose verbs do not resolve it by themselves yet."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from toolkit.cli.reporter import CONSOLE

if TYPE_CHECKING:
    from toolkit.importance.matrix import Imatrix
    from toolkit.model_source import ModelSource


def scratch() -> ExitStack:
    """Return what closes when the command ends."""
    return click.get_current_context().with_resource(ExitStack())


def resolve_source(text: str, *, local_files_only: bool = False, weights: bool = True) -> Path:
    """Return the path that SRC means."""
    from toolkit.verbs import model_names

    return model_names.resolve_source(text, CONSOLE, scratch(), local_files_only=local_files_only, weights=weights)


def resolve_preview(text: str, *, local_files_only: bool = False) -> Path:
    """Return the path that SRC means for a dry run."""
    from toolkit.verbs import model_names

    return model_names.resolve_preview(text, CONSOLE, scratch(), local_files_only=local_files_only)


def resolve_config(text: str, *, local_files_only: bool = False) -> Path:
    """Return the path that SRC means where nothing but its config.json is needed."""
    from toolkit.verbs import model_names

    return model_names.resolve_config(text, CONSOLE, local_files_only=local_files_only)


def told(model: "ModelSource") -> "ModelSource":
    """Return a model once its warnings are on stderr."""
    from toolkit.verbs import model_names

    return model_names.report_warnings(model, CONSOLE)


def told_importance(path: Path | None, model: "ModelSource") -> "Imatrix | None":
    """Return the importance matrix in a file, if one is given, once what it lacks for a model is on stderr."""
    from toolkit.verbs import model_names

    return model_names.read_imatrix_for(model, path, CONSOLE)


def is_gguf(path: Path) -> bool:
    """Tell whether a source is a GGUF model."""
    from toolkit.verbs import model_names

    return model_names.is_gguf(path)
