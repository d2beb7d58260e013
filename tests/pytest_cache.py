"""What tests fetch or make once and keep between runs, in pytest's cache."""

import fcntl
from collections.abc import Callable
from pathlib import Path

import pytest


def made_once(config: pytest.Config, name: str, make: Callable[[Path], None]) -> Path:
    """Return a path in the cache that `make` writes if it is not there; it must not be left half written."""
    assert config.cache is not None
    path = config.cache.mkdir("made") / name
    # Two runs at once make it once.
    with path.with_name(f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            make(path)
    return path
