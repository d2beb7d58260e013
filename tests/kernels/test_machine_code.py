"""Machine code on disk belongs to exactly the sources that are there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOOLKIT = Path(__file__).parents[2] / "toolkit"
SCALE = """
import numpy
from toolkit.kernels.affine_blocks import plain_scales
found = numpy.linspace(0, 1, 16, dtype=numpy.float32).reshape(2, 1, 8)
small, steps = numpy.zeros((2, 1, 8), numpy.uint8), numpy.zeros((2, 1), numpy.float32)
plain_scales(found, small, steps)
print(small.tolist(), sum(plain_scales.stats.cache_hits.values()))
"""


@pytest.fixture
def package(tmp_path):
    """A copy of what kernels are made of."""
    skip = shutil.ignore_patterns("__pycache__")
    for room in ("kernels", "gguf", "machine"):
        shutil.copytree(TOOLKIT / room, tmp_path / "toolkit" / room, ignore=skip)
    for file in TOOLKIT.glob("*.py"):
        shutil.copy(file, tmp_path / "toolkit")
    return tmp_path / "toolkit"


def numbers(package, **environment):
    """Return what a kernel makes of numbers in a process of its own, and how often it was found on disk."""
    surroundings = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"} | environment
    command = [sys.executable, "-c", SCALE]
    done = subprocess.run(
        command,
        cwd=package.parent,
        env=surroundings | {"PYTHONPATH": ""},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found, _, hits = done.stdout.rpartition(" ")
    return found, int(hits)


def test_an_edit_of_an_inlined_helper_in_another_file_is_compiled(package):
    first, hits = numbers(package)
    assert hits == 0
    assert numbers(package) == (first, 1)
    helpers = package / "kernels" / "compiling.py"
    text = helpers.read_text()
    old = "- numpy.int32(0x00400000)"
    assert text.count(old) == 1
    helpers.write_text(text.replace(old, f"{old} + numpy.int32(1)"))
    second, hits = numbers(package)
    assert (second != first, hits) == (True, 0)
    helpers.write_text(text)
    assert numbers(package) == (first, 1)


def test_it_is_kept_where_numba_is_told_to(package, tmp_path):
    numbers(package, NUMBA_CACHE_DIR=str(tmp_path / "there"))
    assert len(list((tmp_path / "there").glob("kernels-*/*/*.nbi"))) == 1
    assert not list(package.glob("kernels/__pycache__/kernels-*"))


def test_where_the_sources_cannot_be_written_beside_the_users_own_folder_has_it(package, tmp_path):
    # A file of that name is in the way even of a superuser.
    shutil.rmtree(package / "kernels" / "__pycache__", ignore_errors=True)
    (package / "kernels" / "__pycache__").write_text("")
    numbers(package, GGUF_TOOLKIT_CACHE=str(tmp_path / "own"))
    assert len(list((tmp_path / "own").glob("kernels-*/*/*.nbi"))) == 1
