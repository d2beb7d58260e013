"""What a child process that runs this package needs of its environment."""

import os
from pathlib import Path


def child_environment() -> dict[str, str]:
    """Return the environment of this process, in which Python finds this very package and ggml leaves debuggers alone."""
    package = str(Path(__file__).resolve().parents[2])
    paths = [package, os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else [package]
    # Without GGML_NO_BACKTRACE an abort starts a debugger if there is one.
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "GGML_NO_BACKTRACE": "1", "PYTHONUTF8": "1"}
