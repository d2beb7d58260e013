"""What llama-cpp-python was built for, told from its files, without loading them."""

import importlib.util
import os
import platform
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from toolkit.machine.host import processor_line

BACKENDS = {
    "cuda": "CUDA",
    "hip": "ROCm",
    "metal": "Metal",
    "vulkan": "Vulkan",
    "sycl": "SYCL",
    "musa": "MUSA",
    "opencl": "OpenCL",
    "cann": "CANN",
    "rpc": "RPC",
}
"""What ggml's libraries are called after, and what people call it."""
WITHOUT_AMX = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
"""flags for C and C++: gcc 12 drops stores to the tile configuration, so every product in tiles ends in SIGILL"""
_RPC = "-DGGML_RPC=on"
_OPTIONS = {"NVIDIA": "-DGGML_CUDA=on", "AMD": "-DGGML_HIP=on", "Apple": "-DGGML_METAL=on", "other": "-DGGML_VULKAN=on"}


@dataclass(frozen=True)
class OffloadBuild:
    """The backends that were built, RPC among them."""

    installed: bool
    backends: tuple[str, ...]

    @property
    def offloads(self) -> bool:
        """Tell whether layers can be offloaded to a GPU of this machine."""
        return any(backend != "RPC" for backend in self.backends)


def offload_build(folder: Path | None = None) -> OffloadBuild:
    """Return what llama-cpp-python was built with; `folder` is where its libraries lie."""
    folder = folder or library_folder()
    if folder is None:
        return OffloadBuild(False, ())
    names = [file.name for file in folder.glob("*ggml-*")]
    built = [words for mark, words in BACKENDS.items() if any(f"ggml-{mark}" in name for name in names)]
    return OffloadBuild(True, tuple(built))


@cache
def llama_build() -> tuple[Any, ...]:
    """Return what changes with every build of llama.cpp, and with the processor, whose features decide on repacking."""
    folder = library_folder()
    files = sorted(folder.glob("*")) if folder is not None else []
    stamps = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return stamps or None, processor_line("flags", "Features") or sys.platform


def library_folder() -> Path | None:
    """Return the folder that llama-cpp-python loads its libraries from, None where it is not installed."""
    found = importlib.util.find_spec("llama_cpp")
    if found is None or found.origin is None:
        return None
    elsewhere = os.environ.get("LLAMA_CPP_LIB_PATH")
    return Path(found.origin).parent / "lib" if elsewhere is None else Path(elsewhere)


def install_line() -> str:
    """Return the command that installs llama-cpp-python where it is missing."""
    return f"{_building(_RPC)} pip install llama-cpp-python"


def rebuild_line(build: OffloadBuild) -> str:
    """Return the command that builds llama-cpp-python on this machine, for the devices of this build and for RPC."""
    options = [f"-DGGML_{mark.upper()}=on" for mark, words in BACKENDS.items() if words in (*build.backends, "RPC")]
    return _reinstalling(" ".join(options))


def reinstall_line(vendor: str | None = None) -> str:
    """Return the command that builds llama-cpp-python for a vendor's GPUs, and for RPC."""
    if vendor is None:
        vendor = "Apple" if sys.platform == "darwin" and platform.machine() == "arm64" else "NVIDIA"
    return _reinstalling(f"{_OPTIONS.get(vendor, _OPTIONS['other'])} {_RPC}")


def _reinstalling(options: str) -> str:
    # Without --no-cache-dir pip would take the wheel that it built before, whatever the options are.
    return f"{_building(options)} pip install --force-reinstall --no-cache-dir --no-binary llama-cpp-python llama-cpp-python"


def _building(options: str) -> str:
    flags = f'CFLAGS="{WITHOUT_AMX}" CXXFLAGS="{WITHOUT_AMX}" ' if "amx_tile" in processor_line("flags").split() else ""
    return f'{flags}CMAKE_ARGS="{options}"'
