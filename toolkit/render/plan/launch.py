"""How to run a planned file, as other programs read it: a new format is a function here and its line in FORMATS."""

import re
import shlex
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass

from toolkit.errors import InputError
from toolkit.gguf.ggml_types import tensor_type
from toolkit.llama.load_settings import TensorOverride
from toolkit.planning.launch import UBATCH, LaunchPlan
from toolkit.visible_text import steers


def server_options(plan: LaunchPlan) -> list[tuple[str, str]]:
    """Return the options of llama-server, without dashes, in its long spelling; a flag has an empty value."""
    every = [
        ("model", str(plan.path), True),
        ("ctx-size", str(plan.n_ctx), True),
        ("n-gpu-layers", str(plan.n_gpu_layers), True),
        ("cache-type-k", plan.kv_types.k, plan.quantized_kv),
        ("cache-type-v", plan.kv_types.v, plan.quantized_kv),
        ("flash-attn", plan.attention, plan.attention != "auto"),
        ("n-cpu-moe", str(plan.n_cpu_moe), plan.n_cpu_moe > 0),
        ("override-tensor", _override_text(plan.overrides), bool(plan.overrides)),
        ("tensor-split", ",".join(map(str, plan.tensor_split)), len(plan.tensor_split) > 1),
        ("parallel", str(plan.n_parallel), plan.n_parallel > 1),
        ("kv-unified", "", plan.kv_unified),
        ("ubatch-size", str(plan.n_ubatch), plan.n_ubatch != UBATCH),
        ("swa-full", "", plan.swa_full),
        ("rpc", ",".join(plan.rpc), bool(plan.rpc)),
        # After the servers, which make devices of their own.
        ("device", ",".join(plan.devices), bool(plan.devices)),
        ("mmproj", str(plan.mmproj), plan.mmproj is not None),
        ("model-draft", str(plan.draft), plan.draft is not None),
    ]
    return [(name, value) for name, value, needed in every if needed]


_SHORT = {
    "model": "-m",
    "ctx-size": "-c",
    "n-gpu-layers": "-ngl",
    "cache-type-k": "-ctk",
    "cache-type-v": "-ctv",
    "flash-attn": "-fa",
    "n-cpu-moe": "-ncmoe",
    "override-tensor": "-ot",
    "tensor-split": "-ts",
    "parallel": "-np",
    "ubatch-size": "-ub",
    "device": "-dev",
}


def llama_server_command(plan: LaunchPlan) -> str:
    """Return a command line for a POSIX shell."""
    words = ["llama-server"]
    for name, value in server_options(plan):
        words += [_SHORT.get(name, f"--{name}"), *([value] if value else [])]
    return shlex.join(words)


def llama_arguments(plan: LaunchPlan) -> str:
    """Return a Python expression that loads the file with llama-cpp-python.

    It has no arguments for tensor overrides, several sequences and RPC servers; see `uses_overrides`.
    """
    arguments = [f"model_path={str(plan.path)!r}", f"n_ctx={plan.n_ctx}", f"n_gpu_layers={plan.n_gpu_layers}"]
    if plan.quantized_kv:
        keys, values = tensor_type(plan.kv_types.k), tensor_type(plan.kv_types.v)
        arguments += [f"type_k={keys.ggml_id}", f"type_v={values.ggml_id}"]
    # `Llama` has no `auto`: without this it runs without flash attention, which takes more memory than was planned.
    if plan.attention != "off":
        arguments.append("flash_attn=True")
    if not plan.swa_full:
        arguments.append("swa_full=False")
    if len(plan.tensor_split) > 1:
        arguments.append(f"tensor_split={[float(count) for count in plan.tensor_split]}")
    if plan.n_ubatch != UBATCH:
        arguments.append(f"n_ubatch={plan.n_ubatch}")
    return f"llama_cpp.Llama({', '.join(arguments)})"


def uses_overrides(plan: LaunchPlan) -> bool:
    """Tell whether the plan needs tensor overrides or RPC servers, which not every program can be told of."""
    return bool(plan.n_cpu_moe or plan.overrides or plan.rpc)


def shell_variables(plan: LaunchPlan) -> str:
    """Return assignments for `eval` in a POSIX shell."""
    variables = {
        "MODEL": str(plan.path),
        "PROFILE": plan.profile,
        "NGL": str(plan.n_gpu_layers),
        "CTX": str(plan.n_ctx),
        "KV_TYPE_K": plan.kv_types.k,
        "KV_TYPE_V": plan.kv_types.v,
        "FLASH_ATTN": plan.attention,
        "N_CPU_MOE": str(plan.n_cpu_moe),
        "OVERRIDE_TENSOR": _override_text(plan.overrides),
        "TENSOR_SPLIT": ",".join(map(str, plan.tensor_split)),
        "PARALLEL": str(plan.n_parallel),
        "UBATCH": str(plan.n_ubatch),
    }
    return "\n".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())


def server_preset(plan: LaunchPlan) -> str:
    """Return a section of llama-server's preset file (`--models-preset`)."""
    # llama-server reads a preset by the names of its keys, so that devices of servers would not be there yet.
    early = {"device"} if plan.rpc else set()
    lines = [f"{name} = {value or 'true'}" for name, value in server_options(plan) if name not in early]
    # A section called * would count for every model.
    section = re.sub(r"[][\s;#*]+", "-", plan.path.stem)
    return "\n".join([f"[{section}]", *lines])


def ollama_modelfile(plan: LaunchPlan) -> str:
    """Return a Modelfile; a quantized KV cache is a setting of Ollama's server, named in a comment."""
    lines = [f"FROM {plan.path}", f"PARAMETER num_ctx {plan.n_ctx}", f"PARAMETER num_gpu {plan.n_gpu_layers}"]
    if plan.n_ubatch != UBATCH:
        lines.append(f"PARAMETER num_batch {plan.n_ubatch}")
    if plan.quantized_kv:
        lines.insert(0, f"# start Ollama with OLLAMA_FLASH_ATTENTION=1 OLLAMA_KV_CACHE_TYPE={plan.kv_types.k}")
    return "\n".join(lines)


@dataclass(frozen=True)
class LaunchFormat:
    """A form in which another program reads a plan."""

    write: Callable[[LaunchPlan], str]
    _: KW_ONLY
    takes_overrides: bool = True
    """whether it can say which tensors stay on the CPU, and which servers take part"""
    misread: re.Pattern[str] | None = None
    """what the name of a file must not have because the format, which has no quotes, reads it otherwise"""
    has_escapes: bool = False
    """whether a name may have control characters"""


FORMATS = {
    "shell": LaunchFormat(shell_variables),
    "llama-server": LaunchFormat(llama_server_command),
    # Source: `parse_ini_from_file()` in common/preset.cpp of llama.cpp (commit 0c1e570).
    "preset": LaunchFormat(server_preset, misread=re.compile(r"[;#]|^\s|\s$")),
    # Source: `ParseFile()` in parser/parser.go of Ollama, which takes a leading quote off.
    "ollama": LaunchFormat(ollama_modelfile, takes_overrides=False, misread=re.compile(r"^[\s\"]|\s$")),
    "python": LaunchFormat(llama_arguments, takes_overrides=False, has_escapes=True),
}


def launch_text(plan: LaunchPlan, name: str) -> str:
    """Return a plan in one of the FORMATS.

    Raises InputError where the name of a file would be read as something else, or as more than a name.
    """
    format_ = FORMATS[name]
    for file in filter(None, (plan.path, plan.mmproj, plan.draft)):
        if steers(str(file)) and not format_.has_escapes:
            raise InputError(f"the name of {file} has control characters, which no {name} line takes; rename the file")
        if format_.misread is not None and format_.misread.search(str(file)):
            raise InputError(f"{name} cannot say the name of {str(file)!r}, for it has no quotes; rename the file")
    return format_.write(plan)


def launch_warnings(plan: LaunchPlan, name: str) -> list[str]:
    """Return what the format cannot say of a plan."""
    if FORMATS[name].takes_overrides or not uses_overrides(plan):
        return []
    return [
        f"{name} cannot be told which experts stay on the CPU or which servers take part; use llama-server for this plan"
    ]


def _override_text(overrides: tuple[TensorOverride, ...]) -> str:
    return ",".join(f"{override.pattern}={override.buffer_type}" for override in overrides)
