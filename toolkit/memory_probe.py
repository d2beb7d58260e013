"""The child process of `MemoryProbe`: reads one JSON request a line on stdin, writes one JSON answer a line.

Request: {path, settings: MemorySettings, allocate}. Answer: {answered_by, asked, buffers} or {kind, error}.
"""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from toolkit.errors import EnvironmentFaultError, InputError, ToolkitError
from toolkit.ggml_devices import GgmlDevice, offload_devices
from toolkit.llama_log import llama_log
from toolkit.memory import MemorySettings
from toolkit.memory_load import LoadedModel
from toolkit.stand_in import MAX_STAND_INS, add_rpc_devices, stand_in_devices

RPC_WAIT_SECONDS = 3.0


def main() -> None:
    """Answer until stdin ends."""
    answers = _private_stdout()
    llama_log()
    for line in sys.stdin:
        answers.write(json.dumps(_respond(json.loads(line))) + "\n")
        answers.flush()
    # The stand-in's server thread never returns, and ggml's static objects must not be destroyed under it.
    os._exit(0)


def _private_stdout() -> IO[str]:
    """Return the stream of answers, and lead what native code prints to stdout elsewhere."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def _respond(request: dict[str, Any]) -> dict[str, Any]:
    try:
        settings = MemorySettings.from_json(request["settings"])
        return _answer(Path(request["path"]), settings, allocate=request["allocate"])
    except ToolkitError as error:
        return {"kind": type(error).__name__, "error": str(error)}


def _answer(path: Path, settings: MemorySettings, *, allocate: bool) -> dict[str, Any]:
    devices, answered_by = _devices(settings)
    with LoadedModel(path, settings, devices, allocate=allocate) as model:
        buffers = model.memory_buffers()
    names = [device.name for device in devices]
    return {"answered_by": answered_by, "asked": names, "buffers": [asdict(buffer) for buffer in buffers]}


def _devices(settings: MemorySettings) -> tuple[tuple[GgmlDevice, ...], str]:
    remote = tuple(device for endpoint in settings.rpc for device in add_rpc_devices(endpoint, RPC_WAIT_SECONDS))
    if settings.device == "cpu":
        return remote, _described(remote) if remote else "CPU"
    gpus = () if settings.device == "stand-in" else offload_devices()
    if settings.device == "gpu" and not gpus:
        raise EnvironmentFaultError(
            "llama-cpp-python sees no GPU here; reinstall it with your GPU's backend switched on"
        )
    if gpus or (remote and settings.device == "auto"):
        found = gpus[: settings.n_devices] + remote
        return found, _described(found)
    found = stand_in_devices()[: settings.n_devices] + remote
    if len(found) < settings.n_devices + len(remote):
        raise InputError(f"{settings.n_devices} GPUs are more than the {MAX_STAND_INS} that can be stood in for")
    return found, "a stand-in for a GPU (llama.cpp's RPC device on this CPU)"


def _described(devices: tuple[GgmlDevice, ...]) -> str:
    return ", ".join(f"{device.name} ({device.description})" for device in devices)


if __name__ == "__main__":
    main()
