"""What the hub and its cache hold of a model.

The files of a repository are listed first, so that only those needed are fetched, and their size is known before.
"""

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Event

from toolkit.errors import CheckpointError, HubError, InputError, OutputError
from toolkit.hub.blobs import LEAST_BYTES, fetch_blob
from toolkit.hub.model import HubModel, NeededFiles, needed_files
from toolkit.hub.transfer import TIMEOUT_SECONDS, download, hub_errors, read_range, reason
from toolkit.json_files import is_inside, read_json_object
from toolkit.reporter import SILENT_TASK, Reporter, Task
from toolkit.units import format_size

WORKERS = 4
_MARKS = ("config.json", "adapter_config.json", "params.json")
"""Every folder that holds a model has one of them."""


class _StoppingTask:
    """A task whose transfers end once `stop` is set: another one failed, or the user stopped them."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self.stop = Event()

    def advance(self, amount: int = 1) -> None:
        """Count some bytes, unless the transfers are to end."""
        if self.stop.is_set() and amount > 0:
            raise InterruptedError("another transfer failed, or the user stopped it")
        self._task.advance(amount)

    def update(self, done: int, total: int, value: str = "") -> None:
        """Pass on the state of the task."""
        self._task.update(done, total, value)


@dataclass(frozen=True)
class Repository:
    """What the hub has of a model at one commit."""

    model: HubModel
    commit: str
    sizes: dict[str, int]
    """path -> bytes"""

    @cached_property
    def needed(self) -> NeededFiles:
        """Return the files that its checkpoint consists of."""
        return needed_files(self.sizes)

    @cached_property
    def weights(self) -> tuple[str, ...]:
        """Return the files with weights; an index is fetched if there is one.

        Raises HubError, or CheckpointError if the index is malformed or names a file that is not there.
        """
        index = self.needed.index
        if index is None:
            return self.needed.weights
        weight_map = read_json_object(self.fetch((index,)) / index).get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(file, str) for file in weight_map.values()):
            raise CheckpointError(f"{index} of {self.model} has no weight_map of tensor names to file names")
        files = tuple(sorted(set(weight_map.values())))
        absent = [file for file in files if file not in self.sizes]
        if absent:
            raise CheckpointError(f"{index} of {self.model} names {absent[0]}, which the repository does not hold")
        return files

    def absent(self, files: Sequence[str]) -> list[str]:
        """Return those of the files that the cache does not hold."""
        return [file for file in files if _cached(self.model.repo, file, self.commit) is None]

    def fetch(self, files: Sequence[str], task: Task = SILENT_TASK) -> Path:
        """Bring files into the cache, several at once, and return the folder that they lie in.

        Raises HubError, or InputError for a file that the hub does not have.
        """
        stopping = _StoppingTask(task)
        with hub_errors(self.model), ThreadPoolExecutor(WORKERS, thread_name_prefix="hub") as pool:
            try:
                paths = list(pool.map(lambda file: self._fetch(file, stopping), files))
            except BaseException:
                stopping.stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return _folder(paths[0], files[0])

    def _fetch(self, file: str, task: Task) -> Path:
        if self.sizes[file] >= LEAST_BYTES and self.absent([file]):
            fetch_blob(self.model.repo, file, self.commit, task)
        return download(self.model.repo, file, self.commit, task)

    def read(self, file: str, start: int, stop: int) -> bytes:
        """Return the bytes [start, stop) of a file without fetching the rest; fewer if it ends before.

        Raises HubError.
        """
        with hub_errors(self.model):
            return read_range(self.model.repo, file, self.commit, start, stop)

    def remember_revision(self) -> None:
        """Have the cache note which commit the revision means, so that it can serve without the hub.

        Raises HubError.
        """
        mark = next((file for file in _MARKS if file in self.sizes), None)
        if mark is not None and self.model.revision != self.commit:
            with hub_errors(self.model):
                download(self.model.repo, mark, self.model.revision)


def open_repository(model: HubModel) -> Repository:
    """List the files of a model.

    Raises HubError if the hub cannot be reached or refuses, InputError if it has no such model or revision.
    """
    import huggingface_hub

    try:
        with hub_errors(model):
            info = huggingface_hub.HfApi().model_info(
                model.repo, revision=model.revision, files_metadata=True, timeout=TIMEOUT_SECONDS
            )
        sizes = {str(file.rfilename): max(0, int(file.size or 0)) for file in info.siblings or ()}
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        # The library takes any answer for what the hub documents; a proxy, or a page to log in to, answers otherwise.
        raise HubError(
            f"what answers for the hub lists no files of {model} ({type(error).__name__}); is there a proxy in between?"
        ) from error
    strange = next((name for name in sizes if not is_inside(name)), None)
    if strange is not None:
        raise HubError(
            f"the hub lists {strange[:100]!r} as a file of {model}, which is outside any repository; nothing was fetched"
        )
    return Repository(model, str(info.sha), sizes)


def download_checkpoint(repository: Repository, reporter: Reporter) -> Path:
    """Fetch what a conversion needs, unless the cache has it, and return its folder there.

    Raises HubError, OutputError if the disk has no space for it, InputError if there is no checkpoint.
    """
    weights = repository.weights
    if not weights:
        raise InputError(_no_checkpoint(repository))
    files = (*repository.needed.description, *weights)
    missing = repository.absent(files)
    total = sum(repository.sizes[file] for file in missing)
    _check_space(repository.model, total)
    if total:
        reporter.note(f"fetching {repository.model} into {cache_folder()}: {format_size(total)}")
    with reporter.task(str(repository.model), total, unit="bytes") as task:
        # The description comes before the weights: it says which weights an interrupted download lacks.
        repository.fetch(repository.needed.description, task)
        folder = repository.fetch(files, task)
    repository.remember_revision()
    return folder


def cached_checkpoint(model: HubModel) -> Path | None:
    """Return the folder in the cache that holds a model's files, as far as they were fetched; None if there is none."""
    for mark in _MARKS:
        path = _cached(model.repo, mark, model.revision)
        if path is not None:
            return path.parent
    return None


def cache_folder() -> Path:
    """Return where all tools keep what they fetch from the hub."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _cached(repo: str, file: str, revision: str) -> Path | None:
    import huggingface_hub

    cached = huggingface_hub.try_to_load_from_cache(repo, file, revision=revision)
    return Path(cached) if isinstance(cached, str) else None


def _folder(path: Path, file: str) -> Path:
    """Return the folder that `file` is relative to."""
    return path.parents[file.count("/")]


def _check_space(model: HubModel, n_bytes: int) -> None:
    folder = cache_folder()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < n_bytes:
        raise OutputError(
            f"no space for {model} in {folder}: {format_size(n_bytes)} are to be fetched, {format_size(free)} are free; "
            "make room, or set HF_HOME to a folder on another disk"
        )


def _no_checkpoint(repository: Repository) -> str:
    model = repository.model
    file = next((name for name in sorted(repository.sizes) if name.endswith(".gguf")), None)
    if file is None:
        return f"{model} has no *.safetensors and no pytorch_model.bin at its root"
    return f"{model} holds GGUF files: fetch one with `hf download {model.repo} {file}`, and give its path"


def fetch_dataset_file(repo: str, file: str) -> Path:
    """Return where the cache holds a file of a data set; the hub is asked only for what the cache lacks.

    Raises HubError if it cannot be fetched.
    """
    import huggingface_hub
    from huggingface_hub import errors

    cached = huggingface_hub.try_to_load_from_cache(repo, file, repo_type="dataset")
    if isinstance(cached, str):
        return Path(cached)
    try:
        # The library asks for a file for half a minute where there is no network; this fails at once.
        huggingface_hub.HfApi().dataset_info(repo, timeout=TIMEOUT_SECONDS)
        return download(repo, file, "main", repo_type="dataset")
    except (errors.HTTPError, OSError) as error:
        raise HubError(
            f"{file} of the data set {repo} cannot be fetched from the hub: {reason(error)}; "
            "fetch it once where there is a network, or give a text of your own with --text FILE"
        ) from error
