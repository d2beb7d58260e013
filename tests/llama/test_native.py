"""The bindings alone are loaded, and the package that they belong to still works beside them."""

import subprocess
import sys

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


@pytest.mark.parametrize("program", [BINDINGS_FIRST, PACKAGE_FIRST, MISSING])
def test_the_functions_are_the_same_whoever_comes_first_and_their_absence_is_one_line(program: str) -> None:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
