"""The functions of ggml that we call through ctypes, from the very library that llama-cpp-python loaded.

Opening `libggml-base.so` a second time by another file name would make a second instance with its own tables; so the
library is found through the one that libllama linked. ctypes releases the interpreter lock during every call.
"""

import ctypes
import os
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

from toolkit.errors import EnvironmentFaultError
from toolkit.llama.offload_build import install_line, library_folder, offload_build, rebuild_line
from toolkit.machine.load import cores_are_taken

POINTER, TEXT, INT, INT64, SIZE = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_int64, ctypes.c_size_t
Signature = tuple[Any, Sequence[Any]]
"""the type of a function's result, and those of its arguments"""
_PACKAGE, _WAITING = "llama_cpp", "OMP_WAIT_POLICY"


@cache
def llama_cpp() -> ModuleType:
    """Import the bindings of llama-cpp-python.

    Raises EnvironmentFaultError if it is missing or does not load.
    """
    # NVML counts GPUs in this order, and budgets and buffers must mean the same one.
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    # OpenMP reads it once, when it is loaded with ggml. A thread that spins while it waits takes the core of one that works.
    if _WAITING not in os.environ and cores_are_taken():
        os.environ[_WAITING] = "passive"
    # Without it, an abort starts a debugger if there is one, and prints what it says.
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")
    try:
        return _bindings()
    except (ImportError, OSError, RuntimeError) as error:
        raise EnvironmentFaultError(
            f"llama-cpp-python does not load ({error}); install it with: {install_line()}"
        ) from error


def thread_waiting() -> str:
    """Return how ggml's threads wait for each other: `passive`, `active`, or `spinning` as ggml's own pool does."""
    if b"OPENMP = 1" not in llama_cpp().llama_print_system_info():
        return "spinning"
    return "passive" if os.environ.get(_WAITING, "").lower() == "passive" else "active"


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


@cache
def ggml_library(name: str) -> ctypes.CDLL:
    """Return the loaded library `name` (`ggml-base`, `ggml`, `ggml-rpc`) under the name that libllama linked.

    Raises EnvironmentFaultError if this build of llama-cpp-python has no such library.
    """
    llama_cpp()
    folder = library_folder()
    assert folder is not None
    candidates = [f"lib{name}.so.0", f"lib{name}.0.dylib", f"lib{name}.dylib", f"{name}.dll", f"lib{name}.so"]
    for file in candidates:
        if (folder / file).exists():
            return ctypes.CDLL(str(folder / file))
    raise EnvironmentFaultError(
        f"this llama-cpp-python was built without lib{name}; build it again: {rebuild_line(offload_build())}"
    )


def declared(name: str, signatures: Mapping[str, Signature]) -> ctypes.CDLL:
    """Return the loaded library `name` once ctypes knows how to call these functions of it.

    Raises EnvironmentFaultError if this build of llama-cpp-python has no such library or function.
    """
    library = ggml_library(name)
    for function_name, (result, arguments) in signatures.items():
        try:
            function = getattr(library, function_name)
        except AttributeError as error:
            raise EnvironmentFaultError(
                f"this llama-cpp-python has no function {function_name}; take the version that this toolkit names"
            ) from error
        function.restype, function.argtypes = result, list(arguments)
    return library


@cache
def base() -> Any:
    """Return libggml-base with the functions that convert, quantize and check rows."""
    convert: Signature = (None, (POINTER, POINTER, INT64))
    return declared(
        "ggml-base",
        {
            "ggml_quantize_chunk": (SIZE, (INT, POINTER, POINTER, INT64, INT64, INT64, POINTER)),
            "ggml_quantize_init": (None, (INT,)),
            "ggml_validate_row_data": (ctypes.c_bool, (INT, POINTER, SIZE)),
            "ggml_bf16_to_fp32_row": convert,
            "ggml_fp16_to_fp32_row": convert,
            "ggml_fp32_to_fp16_row": convert,
            "ggml_fp32_to_bf16_row_ref": convert,
        },
    )
