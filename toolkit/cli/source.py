"""What SRC means on the command line: a path, `demo`, or a model on the hub, which is fetched as far as it is needed."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from toolkit.cli.common import Function, note, warn
from toolkit.demo import DEMO, checkpoint_directory, demo_checkpoint
from toolkit.gguf.inputs import read_here

if TYPE_CHECKING:
    from toolkit.hub import HubModel, Repository
    from toolkit.imatrix.matrix import Imatrix
    from toolkit.model_source import ModelSource


def local_files_option(function: Function) -> Function:
    """Add `--local-files-only`."""
    return click.option(
        "--local-files-only", is_flag=True, help="Of a model on the hub, use the copy in the cache; fetch nothing."
    )(function)


def resolve_source(text: str, *, local_files_only: bool = False, weights: bool = True) -> Path:
    """Return the path that SRC means; what exists here is meant before a model on the hub.

    Without `weights`, a model on the hub that is not in the cache is told from its config, its vocabulary and the headers
    of its shards, in a folder that is removed when the command ends.

    Raises InputError or EnvironmentFaultError.
    """
    return _resolved(text, _download if weights else _outline, local_files_only=local_files_only)


def resolve_preview(text: str, *, local_files_only: bool = False) -> Path:
    """Return the path that SRC means for a dry run, which measures the weights of a checkpoint that is quantized already.

    Raises InputError or EnvironmentFaultError.
    """
    return _resolved(text, _outline_unless_quantized, local_files_only=local_files_only)


def resolve_config(text: str, *, local_files_only: bool = False) -> Path:
    """Return the path that SRC means where nothing but its config.json is needed.

    Raises InputError or EnvironmentFaultError.
    """
    return _resolved(text, lambda repository: repository.fetch(("config.json",)), local_files_only=local_files_only)


def told(model: "ModelSource") -> "ModelSource":
    """Return a model once its warnings are on stderr."""
    for message in model.warnings:
        warn(message)
    return model


def told_importance(path: Path | None, model: "ModelSource") -> "Imatrix | None":
    """Return the importance matrix in a file, if one is given, once what it lacks for a model is said on stderr.

    Raises ImatrixError.
    """
    from toolkit.imatrix.matrix import check_against, read_imatrix

    if path is None:
        return None
    imatrix = read_imatrix(path)
    for message in check_against(imatrix, [(tensor.name, tensor.shape) for tensor in model.tensors]):
        warn(message)
    return imatrix


def is_gguf(path: Path) -> bool:
    """Tell whether a source is a GGUF model: a file, or a folder that holds nothing else."""
    if path.is_dir():
        return not (path / "config.json").exists() and any(path.glob("*.gguf"))
    return path.suffix == ".gguf" or (path.is_file() and path.suffix != ".json")


def _resolved(text: str, take: "Callable[[Repository], Path]", *, local_files_only: bool) -> Path:
    """Return a path, or what is taken of a model on the hub; no output of the command may lie there."""
    path, model = _path_or_model(text)
    if model is not None:
        path = _cached(model) if local_files_only else _from_hub(model, take)
    read_here(path)
    return path


def _path_or_model(text: str) -> "tuple[Path, HubModel | None]":
    path = checkpoint_directory(text)
    if text == DEMO and Path(DEMO).exists():
        meant = "the model inside the package" if path == demo_checkpoint() else "the model in the folder here"
        note(f"{DEMO} is {meant}; ./{DEMO} is always what is here")
    # Whoever means a path gives one that exists: only a name that is none asks for what takes time to import.
    if path.exists() or "/" not in text:
        return path, None
    from toolkit.hub import parse_hub_model

    return path, parse_hub_model(text)


def _cached(model: "HubModel") -> Path:
    from toolkit.errors import InputError
    from toolkit.hub import cache_folder, cached_checkpoint

    folder = cached_checkpoint(model)
    if folder is None:
        raise InputError(f"{model} is neither a directory here nor in {cache_folder()}; leave out --local-files-only")
    return folder


def _from_hub(model: "HubModel", take: "Callable[[Repository], Path]") -> Path:
    from toolkit.errors import HubError
    from toolkit.hub import cached_checkpoint, open_repository

    try:
        repository = open_repository(model)
    except HubError as error:
        folder = cached_checkpoint(model)
        if folder is None:
            raise
        warn(f"{error}; used what the cache has of it")
        return folder
    return take(repository)


def _download(repository: "Repository") -> Path:
    from toolkit.cli.progress import progress_bar
    from toolkit.hub import cache_folder, download_checkpoint
    from toolkit.units import format_size

    def progress(label: str, total: int):  # type: ignore[no-untyped-def]  # progress_bar's own type
        if total:
            note(f"fetching {label} into {cache_folder()}: {format_size(total)}")
        return progress_bar(label, total)

    return download_checkpoint(repository, progress)


def _outline_unless_quantized(repository: "Repository") -> Path:
    from toolkit.json_files import read_json_object
    from toolkit.quantized_sources.declaration import find_declaration

    description = repository.fetch(repository.needed.description)
    config = description / "config.json"
    quantized = config.is_file() and find_declaration(description, read_json_object(config)) is not None
    return _download(repository) if quantized else _outline(repository)


def _outline(repository: "Repository") -> Path:
    from toolkit.gguf.scratch import ScratchFolder
    from toolkit.hub import write_outline

    files = (*repository.needed.description, *repository.weights)
    if not repository.absent(files):
        return repository.fetch(files)
    if repository.weights and not any(file.endswith(".safetensors") for file in repository.weights):
        note(f"the shapes in {repository.weights[0]} cannot be told without fetching it, which `convert` does")
    return write_outline(repository, click.get_current_context().with_resource(ScratchFolder()))
