"""`convert_lora`: an adapter of PEFT or MLX to the GGUF file that llama.cpp adds to a model when it loads it."""

import time
from contextlib import ExitStack
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Literal

from toolkit.conversion.convert import ConversionOptions, write_gguf
from toolkit.conversion.tensor_plan import ConversionPlan
from toolkit.errors import InputError
from toolkit.lora import Adapter, listed, plan_adapter, read_adapter
from toolkit.reporter import Reporter
from toolkit.verbs.model_names import resolve_config, resolve_source
from toolkit.verbs.verb import verb
from toolkit.verification.file_check import check_written


@dataclass(frozen=True)
class ConvertLoraRequest:
    """An adapter, and the model that it was trained on."""

    source: Path | str
    """directory, or repository on the hub"""
    output: Path | str | None = None
    """None is a file called after the adapter, in the current folder"""
    _: KW_ONLY
    base: Path | str | None = None
    """directory, config.json, or model on the hub, of which only the config is needed; None is the one that the adapter names"""
    type_: Literal["f32", "f16", "bf16"] = "f32"
    """type of the matrices"""
    leave_out_whole_weights: bool = False
    """go on without the whole weights that the adapter has beside its matrices"""
    force: bool = False
    """replace an existing output"""
    local_files_only: bool = False
    """for a model on the hub, use the copy in the cache"""


@dataclass(frozen=True)
class ConvertLoraResult:
    """The file that was written."""

    output: Path
    plan: ConversionPlan
    left_out: tuple[str, ...]
    seconds: float


@verb(ConvertLoraRequest)
def convert_lora(request: ConvertLoraRequest, reporter: Reporter) -> ConvertLoraResult:
    """Convert an adapter for llama.cpp's --lora.

    ```python
    toolkit.convert_lora("./adapter", base="./SmolLM2-135M-Instruct")
    ```

    Raises CheckpointError or ConfigError for an adapter that cannot be converted, InputError if its base is not known,
    InputError or OutputError for an output that cannot be written, HubError if something cannot be fetched.
    """
    local = request.local_files_only
    with ExitStack() as scratch:
        directory = resolve_source(str(request.source), reporter, scratch, local_files_only=local)
        adapter = read_adapter(directory, leave_out_whole=request.leave_out_whole_weights)
        if adapter.left_out:
            reporter.warn(f"left out whole weights, which llama.cpp cannot apply: {listed(adapter.left_out)}")
        base = _named_base(adapter, reporter) if request.base is None else str(request.base)
        config = resolve_config(base, reporter, local_files_only=local)
        plan, general = plan_adapter(adapter, config, request.type_)
        for message in general.warnings:
            reporter.warn(message)
        default = f"{general.stem}-{plan.profile.name}-LoRA.gguf"
        output = Path(default if request.output is None else request.output)
        started = time.perf_counter()
        write_gguf(plan, output, ConversionOptions(force=request.force, check=check_written))
    return ConvertLoraResult(output, plan, tuple(adapter.left_out), time.perf_counter() - started)


def _named_base(adapter: Adapter, reporter: Reporter) -> str:
    if adapter.settings.base is None:
        raise InputError("adapter_config.json names no base_model_name_or_path; name the base with --base")
    reporter.note(f"base: {adapter.settings.base}, as adapter_config.json says")
    return adapter.settings.base
