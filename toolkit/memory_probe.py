"""The child process of `MemoryProbe`: reads one JSON request a line on stdin, writes one JSON answer a line.

Request: {path, settings: MemorySettings, allocate}. Answer: {answered_by, asked, buffers} or {kind, error}.
"""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from toolkit.device_choice import choose_devices
from toolkit.errors import ToolkitError
from toolkit.llama_log import llama_log
from toolkit.memory import MemorySettings
from toolkit.memory_load import LoadedModel


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
    devices, answered_by = choose_devices(settings)
    with LoadedModel(path, settings, devices, allocate=allocate) as model:
        buffers = model.memory_buffers()
    names = [device.name for device in devices]
    return {"answered_by": answered_by, "asked": names, "buffers": [asdict(buffer) for buffer in buffers]}


if __name__ == "__main__":
    main()
