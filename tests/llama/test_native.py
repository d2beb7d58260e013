"""The bindings alone are loaded, and the package that they belong to still works beside them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit.llama.offload_build import library_folder

BINDINGS_FIRST = """
import sys
from toolkit.llama.native import llama_cpp as bindings, library_folder
functions = bindings()
assert "jinja2" not in sys.modules and "llama_cpp" not in sys.modules
import llama_cpp
assert llama_cpp.llama_cpp is functions and llama_cpp.Llama
assert llama_cpp.llama_backend_init is functions.llama_backend_init
assert library_folder().is_dir()
"""
PACKAGE_FIRST = """
import llama_cpp
from toolkit.llama.native import llama_cpp as bindings
assert bindings() is llama_cpp.llama_cpp
"""
MISSING = """
import sys
sys.modules["llama_cpp"] = None
from toolkit.errors import EnvironmentFaultError
from toolkit.llama.native import llama_cpp as bindings
try:
    bindings()
except EnvironmentFaultError as error:
    assert "llama-cpp-python does not load" in str(error) and "pip install" in str(error)
else:
    raise AssertionError
"""
PACKAGE_TAKES_THE_LOG = """
import sys
from pathlib import Path
from toolkit.errors import GgufError
from toolkit.llama.runtime import LlamaRuntime
from toolkit.llama.run_settings import RunSettings
for _ in range(2):
    try:
        LlamaRuntime(Path(sys.argv[1]), RunSettings())
    except GgufError as error:
        print(error)
    import llama_cpp
"""

WAITING = """
import sys, toolkit.llama.native as native
native.cores_are_taken = lambda: sys.argv[1] == "taken"
print(native.thread_waiting())
"""
LIBRARY_OF_ANOTHER_FOLDER = """
import os
from toolkit.llama.native import base, library_folder
base()
maps = {line.split()[-1] for line in open("/proc/self/maps") if "/libggml-base" in line}
assert [os.path.dirname(path) for path in maps] == [str(library_folder())] == [os.environ["LLAMA_CPP_LIB_PATH"]], maps
"""


@pytest.mark.parametrize("program", [BINDINGS_FIRST, PACKAGE_FIRST, MISSING])
def test_the_functions_are_the_same_whoever_comes_first_and_their_absence_is_one_line(program: str) -> None:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr


def test_the_log_is_received_again_after_the_package_took_it(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(b"GGUF\x03\0\0\0" + bytes(16))
    command = [sys.executable, "-c", PACKAGE_TAKES_THE_LOG, str(damaged)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    first, second = done.stdout.splitlines()
    assert (first, done.stderr) == (second, "")
    assert "damaged.gguf" in first


@pytest.mark.parametrize(
    ("cores", "asked", "waiting"),
    [
        ("taken", None, "passive"),
        ("free", None, "active"),
        ("free", "PASSIVE", "passive"),
        ("taken", "active", "active"),
    ],
)
def test_threads_wait_passively_where_the_cores_are_taken_or_who_starts_us_wants_it(
    cores: str, asked: str | None, waiting: str
) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {} if asked is None else {"OMP_WAIT_POLICY": asked}
    command = [sys.executable, "-c", WAITING, cores]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True, env=environment)
    assert done.stdout.split() == [waiting]


def test_functions_come_from_the_libraries_that_the_bindings_were_led_to(tmp_path: Path) -> None:
    folder = library_folder()
    assert folder is not None
    shutil.copytree(folder, tmp_path / "lib")
    environment = os.environ | {"LLAMA_CPP_LIB_PATH": str(tmp_path / "lib")}
    command = [sys.executable, "-c", LIBRARY_OF_ANOTHER_FOLDER]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False, env=environment)
    assert done.returncode == 0, done.stderr
