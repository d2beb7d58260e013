"""How to run a planned file: the flags of llama-server, and the arguments of llama-cpp-python's `Llama`."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from toolkit.ggml_types import tensor_type


@dataclass(frozen=True)
class LaunchPlan:
    """A file and the settings that it was planned with."""

    path: Path
    n_ctx: int
    n_gpu_layers: int
    kv_type: str

    @property
    def quantized_kv(self) -> bool:
        """Tell whether the KV cache needs flash attention."""
        return self.kv_type != "f16"


def llama_server_command(plan: LaunchPlan) -> str:
    """Return a command line for a POSIX shell."""
    words = ["llama-server", "-m", str(plan.path), "-c", str(plan.n_ctx), "-ngl", str(plan.n_gpu_layers)]
    if plan.quantized_kv:
        words += ["-ctk", plan.kv_type, "-ctv", plan.kv_type, "-fa", "on"]
    return shlex.join(words)


def llama_arguments(plan: LaunchPlan) -> str:
    """Return a Python expression that loads the file with llama-cpp-python."""
    arguments = [f"model_path={str(plan.path)!r}", f"n_ctx={plan.n_ctx}", f"n_gpu_layers={plan.n_gpu_layers}"]
    if plan.quantized_kv:
        number = tensor_type(plan.kv_type).ggml_id
        arguments += [f"type_k={number}", f"type_v={number}", "flash_attn=True"]
    return f"llama_cpp.Llama({', '.join(arguments)})"
