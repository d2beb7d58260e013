"""`convert-lora`: an adapter of PEFT or MLX to the GGUF file that llama.cpp adds to a model when it loads it."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit.cli.common import emit_json, json_option, note, warn
from toolkit.cli.files import OUTPUT, SOURCE
from toolkit.cli.options import force_option, local_files_option
from toolkit.cli.output import echo
from toolkit.cli.source import resolve_config, resolve_source

if TYPE_CHECKING:
    from toolkit.conversion.tensor_plan import ConversionPlan
    from toolkit.lora import Adapter

EXAMPLE = """
\b
Examples:
  gguf-toolkit convert-lora ./adapter --base ./SmolLM2-135M-Instruct
  gguf-toolkit convert-lora org/adapter adapter.gguf --type f16
"""


@click.command(epilog=EXAMPLE)
@click.argument("source", metavar="ADAPTER", type=SOURCE)
@click.argument("output", metavar="[OUT]", required=False, type=OUTPUT)
@click.option(
    "--base", metavar="SRC", type=SOURCE, help="The model that it was trained on; default: the one that it names."
)
@click.option(
    "--type",
    "type_",
    type=click.Choice(["f32", "f16", "bf16"]),
    default="f32",
    show_default=True,
    help="Of the matrices.",
)
@click.option(
    "--leave-out-whole-weights",
    is_flag=True,
    help="Go on without the whole weights (norms, a saved lm_head) that it has beside its matrices.",
)
@force_option
@local_files_option
@json_option
def command(source: str, output: Path | None, base: str | None, **options: Any) -> None:
    """Convert ADAPTER, an adapter of PEFT or MLX (a directory, or a repository on the hub), for llama.cpp's --lora.

    Of the base (a directory, a config.json, or a model on the hub) only the config is needed.
    """
    from toolkit.conversion.convert import ConversionOptions, write_gguf
    from toolkit.lora import listed, plan_adapter, read_adapter
    from toolkit.verification.file_check import check_written

    local = options["local_files_only"]
    directory = resolve_source(source, local_files_only=local)
    adapter = read_adapter(directory, leave_out_whole=options["leave_out_whole_weights"])
    if adapter.left_out:
        warn(f"left out whole weights, which llama.cpp cannot apply: {listed(adapter.left_out)}")
    config = resolve_config(base or _named_base(adapter), local_files_only=local)
    plan, general = plan_adapter(adapter, config, options["type_"])
    for message in general.warnings:
        warn(message)
    path = output or Path(f"{general.stem}-{plan.profile.name}-LoRA.gguf")
    started = time.perf_counter()
    write_gguf(plan, path, ConversionOptions(force=options["force"], check=check_written))
    seconds = time.perf_counter() - started
    if options["as_json"]:
        emit_json("convert-lora", _document(plan, path, seconds) | {"left_out": list(adapter.left_out)})
    else:
        _report(plan, path, seconds)


def _named_base(adapter: "Adapter") -> str:
    from toolkit.errors import InputError

    if adapter.settings.base is None:
        raise InputError("adapter_config.json names no base_model_name_or_path; name the base with --base")
    note(f"base: {adapter.settings.base}, as adapter_config.json says")
    return adapter.settings.base


def _document(plan: "ConversionPlan", path: Path, seconds: float) -> dict[str, Any]:
    return {
        "output": str(path),
        "file_bytes": plan.file_bytes,
        "architecture": plan.metadata["general.architecture"].value,
        "alpha": plan.metadata["adapter.lora.alpha"].value,
        "seconds": seconds,
        "tensors": [
            {"name": tensor.name, "type": tensor.type.name, "shape": list(tensor.shape), "bytes": tensor.n_bytes}
            for tensor in plan.tensors
        ],
    }


def _report(plan: "ConversionPlan", path: Path, seconds: float) -> None:
    from toolkit.units import format_duration, format_size

    alpha, architecture = (plan.metadata[key].value for key in ("adapter.lora.alpha", "general.architecture"))
    echo(
        f"wrote {path} ({format_size(plan.file_bytes)}) for {architecture}: {len(plan.tensors) // 2} weights, "
        f"alpha {alpha:g}, in {format_duration(seconds)}"
    )
