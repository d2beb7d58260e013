"""What the name of a model means: a path, `demo`, or a model on the hub, which is fetched as far as it is needed."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from toolkit.demo import DEMO, checkpoint_directory, demo_checkpoint
from toolkit.errors import HubError, InputError
from toolkit.gguf.inputs import read_here
from toolkit.gguf.scratch import ScratchFolder
from toolkit.hub import (
    HubModel,
    Repository,
    cache_folder,
    cached_checkpoint,
    download_checkpoint,
    open_repository,
    parse_hub_model,
    write_outline,
)
from toolkit.importance.matrix import Imatrix, check_against, read_imatrix
from toolkit.json_files import read_json_object
from toolkit.model_source import ModelSource
from toolkit.quantized_sources.registry import find_declaration
from toolkit.reporter import Reporter


def resolve_source(
    name: str, reporter: Reporter, scratch: ExitStack, *, local_files_only: bool = False, weights: bool = True
) -> Path:
    """Return the path that the name of a model means; what exists here is meant before a model on the hub.

    Without `weights`, a model on the hub that is not in the cache is known by its config, its vocabulary and the headers
    of its shards, in a folder that is removed when `scratch` closes.

    Raises InputError or EnvironmentFaultError.
    """
    take = _Taker(reporter, scratch)
    return _resolve(name, take.checkpoint if weights else take.outline, reporter, local_files_only=local_files_only)


def resolve_preview(name: str, reporter: Reporter, scratch: ExitStack, *, local_files_only: bool = False) -> Path:
    """Return the path for a dry run, which measures the weights of a checkpoint only if that is quantized already.

    Raises InputError or EnvironmentFaultError.
    """
    take = _Taker(reporter, scratch).outline_unless_quantized
    return _resolve(name, take, reporter, local_files_only=local_files_only)


def resolve_config(name: str, reporter: Reporter, *, local_files_only: bool = False) -> Path:
    """Return the path of a model of which nothing but its config.json is needed.

    Raises InputError or EnvironmentFaultError.
    """
    return _resolve(
        name, lambda repository: repository.fetch(("config.json",)), reporter, local_files_only=local_files_only
    )


def report_warnings(model: ModelSource, reporter: Reporter) -> ModelSource:
    """Return a model once its warnings are reported."""
    for message in model.warnings:
        reporter.warn(message)
    return model


def read_imatrix_for(model: ModelSource, path: Path | str | None, reporter: Reporter) -> Imatrix | None:
    """Return the importance matrix in a file, if one is given, once what it lacks for a model is reported.

    Raises ImatrixError.
    """
    if path is None:
        return None
    imatrix = read_imatrix(Path(path))
    for message in check_against(imatrix, [(tensor.name, tensor.shape) for tensor in model.tensors]):
        reporter.warn(message)
    return imatrix


def is_gguf(path: Path) -> bool:
    """Tell whether a source is a GGUF model: a file, or a folder that holds nothing else."""
    if path.is_dir():
        return not (path / "config.json").exists() and any(path.glob("*.gguf"))
    return path.suffix == ".gguf" or (path.is_file() and path.suffix != ".json")


def _resolve(name: str, take: Callable[[Repository], Path], reporter: Reporter, *, local_files_only: bool) -> Path:
    """Return a path, or what is taken of a model on the hub; no output of the command may lie there."""
    path, model = _path_or_model(name, reporter)
    if model is not None:
        path = _cached(model) if local_files_only else _from_hub(model, take, reporter)
    read_here(path)
    return path


def _path_or_model(name: str, reporter: Reporter) -> tuple[Path, HubModel | None]:
    path = checkpoint_directory(name)
    if name == DEMO and Path(DEMO).exists():
        meant = "the model inside the package" if path == demo_checkpoint() else "the model in the folder here"
        reporter.note(f"{DEMO} is {meant}; ./{DEMO} is always what is here")
    return (path, None) if path.exists() or "/" not in name else (path, parse_hub_model(name))


def _cached(model: HubModel) -> Path:
    folder = cached_checkpoint(model)
    if folder is None:
        raise InputError(f"{model} is neither a directory here nor in {cache_folder()}; leave out --local-files-only")
    return folder


def _from_hub(model: HubModel, take: Callable[[Repository], Path], reporter: Reporter) -> Path:
    try:
        repository = open_repository(model)
    except HubError as error:
        folder = cached_checkpoint(model)
        if folder is None:
            raise
        reporter.warn(f"{error}; the copy in the cache is used")
        return folder
    return take(repository)


class _Taker:
    """Takes from a repository on the hub what a command needs of it."""

    def __init__(self, reporter: Reporter, scratch: ExitStack) -> None:
        self._reporter = reporter
        self._scratch = scratch

    def checkpoint(self, repository: Repository) -> Path:
        """Return where all files of a checkpoint are, once they are fetched."""
        return download_checkpoint(repository, self._reporter)

    def outline(self, repository: Repository) -> Path:
        """Return a folder with the description of a checkpoint and the headers of its shards."""
        files = (*repository.needed.description, *repository.weights)
        if not repository.absent(files):
            return repository.fetch(files)
        if repository.weights and not any(file.endswith(".safetensors") for file in repository.weights):
            self._reporter.note(
                f"the shapes in {repository.weights[0]} are not known before it is fetched, which `convert` does"
            )
        return write_outline(repository, self._scratch.enter_context(ScratchFolder()))

    def outline_unless_quantized(self, repository: Repository) -> Path:
        """Return an outline, or the whole checkpoint where its weights are quantized."""
        description = repository.fetch(repository.needed.description)
        config = description / "config.json"
        quantized = config.is_file() and find_declaration(description, read_json_object(config)) is not None
        return self.checkpoint(repository) if quantized else self.outline(repository)
