"""The child process of `MemoryProbe`: reads one JSON request a line on stdin, writes one JSON answer a line.

Request: {path, settings: list of LoadSettings, allocate, hold}. Answer: a list of {answered_by, asked, buffers} or
{kind, error}, one for each of the settings. With the argument `--from-log` it reads llama.cpp's log everywhere.
"""

import json
import logging
import os
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from toolkit.errors import ToolkitError
from toolkit.llama.devices import choose_devices
from toolkit.llama.footprint import Footprint, by_device
from toolkit.llama.ggml_devices import free_bytes
from toolkit.llama.load_settings import LoadSettings
from toolkit.llama.log import llama_log
from toolkit.llama.memory_breakdown import tells_memory
from toolkit.llama.opening import this_process_may_die
from toolkit.llama.opening_child import answer_to
from toolkit.memory.loaded_model import LoadedModel
from toolkit.memory.probe import FROM_LOG

if TYPE_CHECKING:
    from toolkit.llama.runtime import LlamaRuntime

MAX_KEPT_MODELS = 32
"""without weights; a large one takes a few MiB"""


def main() -> None:
    """Answer until stdin ends."""
    answers = _private_stdout()
    # What there is to warn of, the process that asks says itself.
    logging.getLogger("toolkit").addHandler(logging.NullHandler())
    this_process_may_die()
    llama_log().divert()
    models = _Models(from_log=FROM_LOG in sys.argv[1:])
    for line in sys.stdin:
        answers.write(json.dumps(_respond(json.loads(line), models)) + "\n")
        answers.flush()
    # The simulated device's server thread never returns, and ggml's static objects must not be destroyed under it.
    os._exit(0)


def _private_stdout() -> IO[str]:
    """Return the stream of answers, and lead what native code prints to stdout elsewhere."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


class _Models:
    """Loads models, and keeps the last of those without weights: the next question often differs in its context only."""

    def __init__(self, *, from_log: bool) -> None:
        self._from_log = from_log
        self._kept: OrderedDict[tuple[Any, ...], LoadedModel] = OrderedDict()
        self._held: LlamaRuntime | None = None

    def hold(self, path: Path, settings: LoadSettings) -> Footprint:
        """Load a model and evaluate a batch, so that all is there that running takes; return what it takes."""
        # Imported here, because questions do not need it and it would make the first of them wait.
        from toolkit.llama.run_settings import run_settings
        from toolkit.llama.runtime import LlamaRuntime

        self.release()
        from_log = self._from_log or not tells_memory()
        simulated = self._without_weights(path, settings).footprint(settings) if from_log else None
        self._held = LlamaRuntime(path, run_settings(settings, use_mmap=False))
        self._held.feed([0] * settings.n_ubatch)
        devices, answered_by = choose_devices(settings)
        asked = tuple(device.name for device in devices)
        return simulated or by_device(self._held.memory_buffers(), answered_by, asked)

    def release(self) -> None:
        """Free what is held."""
        held, self._held = self._held, None
        if held is not None:
            held.close()

    @contextmanager
    def model(self, path: Path, settings: LoadSettings, *, allocate: bool) -> Iterator[LoadedModel]:
        """Give a model; one that takes memory, or the only place at a server, is freed at the end of the block."""
        if allocate or settings.rpc:
            with self._load(path, settings, allocate=allocate) as model:
                yield model
        else:
            yield self._without_weights(path, settings)

    def _without_weights(self, path: Path, settings: LoadSettings) -> LoadedModel:
        key = (path, *_version(path), settings.of_model)
        if key not in self._kept:
            self._kept[key] = self._load(path, settings, allocate=False)
            if len(self._kept) > MAX_KEPT_MODELS:
                self._kept.popitem(last=False)[1].close()
        self._kept.move_to_end(key)
        return self._kept[key]

    def _load(self, path: Path, settings: LoadSettings, *, allocate: bool) -> LoadedModel:
        return LoadedModel(path, settings, allocate=allocate, from_log=self._from_log)


def _version(path: Path) -> tuple[int, ...]:
    """Return what tells a file from another that had its name before; nothing where there is no file."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _respond(request: dict[str, Any], models: _Models) -> list[dict[str, Any]]:
    path, allocate = Path(request["path"]), request["allocate"]
    every = [LoadSettings.from_json(values) for values in request["settings"]]
    models.release()
    if request.get("devices_only"):
        return [_free_bytes(each) for each in every]
    if request.get("open"):
        return [answer_to(path, each) for each in every]
    if request.get("hold"):
        return [_answer(models.hold, path, each) for each in every]
    answers: list[dict[str, Any]] = []
    for _, alike in groupby(every, key=lambda settings: settings.of_model):
        group = list(alike)
        try:
            with models.model(path, group[0], allocate=allocate) as model:
                answers += [_answer(model.footprint, each) for each in group]
        except ToolkitError as error:
            answers += [_refusal(error)] * len(group)
    return answers


def _free_bytes(settings: LoadSettings) -> dict[str, Any]:
    try:
        return {"free_bytes": [free_bytes(device) for device in choose_devices(settings)[0]]}
    except ToolkitError as error:
        return _refusal(error)


def _answer(take: Callable[..., Footprint], *arguments: Any) -> dict[str, Any]:
    try:
        return take(*arguments).document()
    except ToolkitError as error:
        return _refusal(error)


def _refusal(error: ToolkitError) -> dict[str, Any]:
    return {"kind": type(error).__name__, "error": str(error)}


if __name__ == "__main__":
    main()
