"""What llama-cpp-python was built for, told from its files, without loading them."""

import importlib.util
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
    folder = folder or _library_folder()
    if folder is None:
        return OffloadBuild(False, ())
    names = [file.name for file in folder.glob("*ggml-*")]
    built = [words for mark, words in BACKENDS.items() if any(f"ggml-{mark}" in name for name in names)]
    return OffloadBuild(True, tuple(built))


@cache
def llama_build() -> tuple[Any, ...]:
    """Return what changes with every build of llama.cpp, and with the processor, whose features decide on repacking."""
    folder = _library_folder()
    files = sorted(folder.glob("*")) if folder is not None else []
    stamps = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return stamps or None, processor_line("flags", "Features") or sys.platform


def _library_folder() -> Path | None:
    found = importlib.util.find_spec("llama_cpp")
    return None if found is None or found.origin is None else Path(found.origin).parent / "lib"


def reinstall_line(vendor: str | None = None) -> str:
    """Return the command that builds llama-cpp-python for a vendor's GPUs, and for RPC."""
    if vendor is None:
        vendor = "Apple" if sys.platform == "darwin" and platform.machine() == "arm64" else "NVIDIA"
    option = _OPTIONS.get(vendor, _OPTIONS["other"])
    return (
        f'CMAKE_ARGS="{option} -DGGML_RPC=on" pip install --force-reinstall --no-cache-dir --no-binary llama-cpp-python '
        "llama-cpp-python"
    )
