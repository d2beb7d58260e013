"""The functions of ggml that we call through ctypes, from the very library that llama-cpp-python loaded.

Opening `libggml-base.so` a second time by another file name would make a second instance with its own tables; so the
library is found through the one that libllama linked. ctypes releases the interpreter lock during every call.
"""

import ctypes
import os
import sys
from functools import cache
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from toolkit.errors import EnvironmentFaultError

INSTALL_HINT = 'install it with: CMAKE_ARGS="-DGGML_RPC=on" pip install llama-cpp-python'

_PACKAGE = "llama_cpp"


@cache
def llama_cpp() -> ModuleType:
    """Import the bindings of llama-cpp-python.

    Raises EnvironmentFaultError if it is missing or does not load.
    """
    # NVML counts GPUs in this order, and budgets and buffers must mean the same one.
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    try:
        return _bindings()
    except (ImportError, OSError, RuntimeError) as error:
        raise EnvironmentFaultError(f"llama-cpp-python does not load ({error}); {INSTALL_HINT}") from error


def _bindings() -> ModuleType:
    """Import the module of the C functions alone: its package would bring a chat server's modules, which take 0.1 s."""
    spec = None if _PACKAGE in sys.modules else find_spec(_PACKAGE)
    if spec is not None:
        sys.modules[_PACKAGE] = module_from_spec(spec)
    try:
        return import_module("llama_cpp.llama_cpp")
    finally:
        if spec is not None:
            # Whoever imports the package later gets all of it, around the same functions.
            del sys.modules[_PACKAGE]


def library_folder() -> Path:
    """Return the folder that holds the shared libraries of llama-cpp-python."""
    return Path(str(llama_cpp().__file__)).parent / "lib"


@cache
def ggml_library(name: str) -> ctypes.CDLL:
    """Return the loaded library `name` (`ggml-base`, `ggml`, `ggml-rpc`) under the name that libllama linked.

    Raises EnvironmentFaultError if this build of llama-cpp-python has no such library.
    """
    folder = library_folder()
    candidates = [f"lib{name}.so.0", f"lib{name}.0.dylib", f"lib{name}.dylib", f"{name}.dll", f"lib{name}.so"]
    for file in candidates:
        if (folder / file).exists():
            return ctypes.CDLL(str(folder / file))
    raise EnvironmentFaultError(f"this llama-cpp-python was built without lib{name}; {INSTALL_HINT}")


@cache
def base() -> Any:
    """Return libggml-base with the signatures of the functions that we call."""
    library = ggml_library("ggml-base")
    pointer, size, count = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64
    library.ggml_quantize_chunk.restype = size
    library.ggml_quantize_chunk.argtypes = [ctypes.c_int, pointer, pointer, count, count, count, pointer]
    library.ggml_quantize_init.restype = None
    library.ggml_quantize_init.argtypes = [ctypes.c_int]
    library.ggml_validate_row_data.restype = ctypes.c_bool
    library.ggml_validate_row_data.argtypes = [ctypes.c_int, pointer, size]
    for name in (
        "ggml_bf16_to_fp32_row",
        "ggml_fp16_to_fp32_row",
        "ggml_fp32_to_fp16_row",
        "ggml_fp32_to_bf16_row_ref",
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = None, [pointer, pointer, count]
    return library
