"""What a child process that runs this package needs of its environment."""

import os
from pathlib import Path


def child_environment() -> dict[str, str]:
    """Return the environment of this process, in which Python finds this very package, and nothing in the current folder.

    That may be a checkpoint of strangers, with a json.py in it. ggml leaves debuggers alone.
    """
    package = str(Path(__file__).resolve().parents[2])
    paths = [package, os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else [package]
    # Without GGML_NO_BACKTRACE an abort starts a debugger if there is one.
    ours = {"PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1", "PYTHONUTF8": "1", "GGML_NO_BACKTRACE": "1"}
    return os.environ | ours
