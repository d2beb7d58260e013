"""The bindings alone are loaded, and the package that they belong to still works beside them."""

import subprocess
import sys
from pathlib import Path

import pytest

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
from toolkit.llama.runtime_settings import RuntimeSettings
for _ in range(2):
    try:
        LlamaRuntime(Path(sys.argv[1]), RuntimeSettings())
    except GgufError as error:
        print(error)
    import llama_cpp
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
