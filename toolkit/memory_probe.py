"""The child process of `MemoryProbe`: reads one JSON request a line on stdin, writes one JSON answer a line.

Request: {path, settings: MemorySettings, allocate}. Answer: {answered_by, buffers} or {kind, error}.
"""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from toolkit.errors import EnvironmentFaultError, ToolkitError
from toolkit.ggml_devices import GgmlDevice, offload_devices
from toolkit.llama_log import llama_log
from toolkit.memory import AskedDevice, MemorySettings
from toolkit.runtime import LlamaRuntime, RuntimeSettings
from toolkit.stand_in import stand_in_device


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
        return _answer(Path(request["path"]), MemorySettings(**request["settings"]), request["allocate"])
    except ToolkitError as error:
        return {"kind": type(error).__name__, "error": str(error)}


def _answer(path: Path, settings: MemorySettings, allocate: bool) -> dict[str, Any]:
    devices, answered_by = _devices(settings.device)
    runtime_settings = RuntimeSettings(
        n_ctx=settings.n_ctx,
        n_batch=settings.n_batch,
        n_ubatch=settings.n_ubatch,
        n_gpu_layers=settings.n_gpu_layers,
        kv_type_k=settings.kv_type_k,
        kv_type_v=settings.kv_type_v,
        flash_attention=settings.flash_attention,
        use_mmap=False,
        no_alloc=not allocate,
        devices=tuple(device.pointer for device in devices),
    )
    with LlamaRuntime(path, runtime_settings) as runtime:
        buffers = runtime.memory_buffers()
    return {"answered_by": answered_by, "buffers": [asdict(buffer) for buffer in buffers]}


def _devices(asked: AskedDevice) -> tuple[tuple[GgmlDevice, ...], str]:
    if asked == "cpu":
        return (), "CPU"
    gpus = () if asked == "stand-in" else offload_devices()
    if gpus:
        return gpus[:1], f"{gpus[0].name} ({gpus[0].description})"
    if asked == "gpu":
        raise EnvironmentFaultError(
            "llama-cpp-python sees no GPU here; reinstall it with your GPU's backend switched on"
        )
    return (stand_in_device(),), "a stand-in for a GPU (llama.cpp's RPC device on this CPU)"


if __name__ == "__main__":
    main()
