"""`fit`: the main job, from a checkpoint and a budget to a file that fits, with proof."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit.cli.common import COUNT, emit_json, json_option, note, warn
from toolkit.cli.foreign import converter_options, source_from_converter
from toolkit.cli.places import budget_options, memory_asker, sizes
from toolkit.cli.planning import plan_request, planning_options, warn_of_long_context
from toolkit.cli.source import local_files_option, resolve_source

if TYPE_CHECKING:
    from toolkit.fit import Devices, FitJob, FitResult, MeasureOptions
    from toolkit.memory import DeviceBytes
    from toolkit.model_source import ModelSource
    from toolkit.plan import PlannedChoice, PlanRequest

EXAMPLE = """
\b
Examples:
  gguf-toolkit fit demo --vram 16MiB --ctx 512
  gguf-toolkit fit ./SmolLM2-135M-Instruct --vram 1GiB --ctx 8k --json
  gguf-toolkit fit ./model --vram 8GiB --ctx 16k --prefer quality --out models/
"""


@click.command(epilog=EXAMPLE)
@click.argument("source", metavar="SRC")
@budget_options
@click.option("--ctx", "n_ctx", type=COUNT, default="4k", show_default=True, help="Context length, e.g. 16k.")
@click.option(
    "--prefer",
    type=click.Choice(["balance", "speed", "quality"]),
    default="balance",
    show_default=True,
    help="Where nothing of 4 bits or more fits whole: split Q4_K_M, take a smaller file, or split a larger one.",
)
@click.option("--profile", "-p", "profiles", multiple=True, help="Only this profile; repeatable, best first.")
@click.option("--kv", multiple=True, metavar="TYPE[/TYPE]", help="Type of KV cache; repeatable; default: f16, q8_0.")
@click.option("--flash-attention", "-fa", type=click.Choice(["auto", "on", "off"]), default="auto", show_default=True)
@click.option("--imatrix", type=click.Path(path_type=Path), help="Importance matrix (GGUF or legacy .dat).")
@click.option("--max-ppl-increase", type=click.FloatRange(min=0), default=3.0, show_default=True, help="Per cent.")
@click.option(
    "--text", type=click.Path(path_type=Path), help="Evaluation text; default: a part of Python's own manual."
)
@click.option(
    "--chunks", type=click.IntRange(min=1), default=20, show_default=True, help="Windows of text to measure on."
)
@click.option("--repetitions", "-r", type=click.IntRange(min=1), default=3, show_default=True, help="Of token rates.")
@click.option("--out", type=click.Path(path_type=Path), help="File, or folder for a file of the default name.")
@click.option("--force", is_flag=True, help="Replace an existing output.")
@click.option("--pre", metavar="NAME", help="Name of the BPE pre-tokenizer, where it is not recognised.")
@click.option("--threads", "-t", type=click.IntRange(min=1), help="Worker threads; default: physical cores.")
@converter_options
@local_files_option
@json_option
def command(source: str, **options: Any) -> None:
    """Make the best GGUF file of the checkpoint SRC that fits a VRAM budget, and prove it.

    SRC is a directory, a model on the hub (org/name[@revision]), or `demo`. Memory is asked of llama.cpp before anything
    is converted. The file is loaded, its perplexity is compared with the unquantized model's and its token rates are
    measured; if it lost too much, a heavier profile with fewer layers on the GPU takes its place. Without a GPU it plans for the budget all the same and measures on the CPU.
    """
    model = _model(source, options)
    for message in model.warnings:
        warn(message)
    job = _job(model, options)
    result = _run(job, options)
    if options["as_json"]:
        emit_json("fit", document(result, job.request))
    else:
        _print_report(result, job.request)


def _model(source: str, options: dict[str, Any]) -> "ModelSource":
    from toolkit.hf_source import source_from_checkpoint

    directory = resolve_source(source, local_files_only=options["local_files_only"])
    if options["converter"] is not None:
        return source_from_converter(directory, options["out"], options["converter"], options["converter_python"])
    return source_from_checkpoint(directory, options["pre"])


def _job(model: "ModelSource", options: dict[str, Any]) -> "FitJob":
    from toolkit.fit import FitJob
    from toolkit.imatrix import read_imatrix
    from toolkit.plannable import model_from_source
    from toolkit.planner import LADDER
    from toolkit.quant_profile import load_profile

    profiles = tuple(load_profile(name).name for name in options["profiles"]) or LADDER
    imatrix = read_imatrix(options["imatrix"]) if options["imatrix"] else None
    plannable = model_from_source(model, profiles, imatrix)
    warn_of_long_context(options["n_ctx"], plannable.trained_context)
    request = plan_request(planning_options(options), explicit=False)
    return FitJob(model, plannable, request, _measure_options(options))


def _measure_options(options: dict[str, Any]) -> "MeasureOptions":
    from toolkit.evaluation_text import read_text
    from toolkit.fit import MeasureOptions
    from toolkit.token_rate import RateSettings

    return MeasureOptions(
        read_text(options["text"]),
        options["chunks"],
        options["max_ppl_increase"] / 100,
        RateSettings(repetitions=options["repetitions"]),
    )


def _run(job: "FitJob", options: dict[str, Any]) -> "FitResult":
    from toolkit.cli.conversion import output_path
    from toolkit.cli.progress import progress_bar
    from toolkit.convert import ConversionOptions
    from toolkit.file_check import check_finished
    from toolkit.fit import Watcher, fit
    from toolkit.output_file import check_output

    def output_for(choice: "PlannedChoice") -> Path:
        path = output_path(options["out"], job.source.name, choice.file.profile)
        check_output(path, force=options["force"])
        return path

    largest = sum(tensor.source.type.tensor_bytes(tensor.shape) for tensor in job.source.tensors)
    with _devices(job.request, options) as devices, progress_bar("converting", largest) as advance:
        conversion = ConversionOptions(options["threads"], options["force"], progress=advance, check=check_finished)
        return fit(job, devices, output_for, Watcher(note, conversion))


@contextmanager
def _devices(request: "PlanRequest", options: dict[str, Any]) -> "Iterator[Devices]":
    """Give the devices to load on: those of this machine and the servers, or a stand-in to ask and the CPU to measure on."""
    from toolkit.device_choice import choose_devices
    from toolkit.fit import Devices
    from toolkit.ggml_devices import offload_devices
    from toolkit.load_plan import BudgetLimits, read_budgets
    from toolkit.memory import MemoryProbe

    here = bool(offload_devices()) or bool(request.settings.rpc) or request.on_cpu
    with memory_asker(in_child=not request.settings.rpc) as asker:
        if here:
            found = () if request.on_cpu else choose_devices(request.settings)[0]
            # Where nothing was given, what was free when it was planned is no limit to what is free later.
            given = request.budgets.vram_bytes if sizes(options["vram"]) else None
            limits = BudgetLimits(given, options["ram"], request.budgets.margin_bytes)
            yield Devices(asker, lambda: read_budgets(found, limits))
        else:
            with MemoryProbe() as probe:
                yield Devices(asker, allocate=probe.measure)


def document(result: "FitResult", request: "PlanRequest") -> dict[str, Any]:
    """Return the JSON document of a fit."""
    from dataclasses import asdict

    from toolkit.cli.plan_report import choice_document
    from toolkit.launch import llama_arguments, llama_server_command

    trial, quality = result.trial, result.trial.quality
    conversion = trial.choice.file.conversion
    return {
        "output": str(result.launch.path),
        "seconds": result.seconds,
        "choices": [choice_document(choice, request) for choice in (trial.choice, *result.runners_up)],
        "rejected": [
            {"profile": trial.choice.file.profile, "perplexity_increase": trial.quality.increase}
            for trial in result.rejected
        ],
        "answered_by": trial.choice.footprint.answered_by,
        "allocated_bytes": trial.allocated.gpu_bytes if trial.allocated is not None else None,
        "predicted_bytes": trial.choice.footprint.gpu_bytes,
        "devices": _devices_document(result),
        "file_bytes": trial.choice.file.file_bytes,
        "bits_per_weight": conversion.bits_per_weight if conversion is not None else None,
        "perplexity": quality.file.perplexity,
        "standard_error": quality.file.standard_error,
        "tokens": quality.file.tokens,
        "baseline_perplexity": quality.baseline.perplexity,
        "perplexity_increase": quality.increase,
        "measured_on": _measured_on(result),
        **asdict(trial.rates),
        "llama_server": llama_server_command(result.launch),
        "llama_cpp_python": llama_arguments(result.launch),
    }


def _devices_document(result: "FitResult") -> list[dict[str, Any]]:
    """Return predicted and allocated bytes of every GPU and server."""
    allocated = result.trial.allocated
    return [
        {
            "name": device.name,
            "predicted_bytes": device.total_bytes,
            "allocated_bytes": allocated.bytes_on(device.name) if allocated is not None else None,
        }
        for device in _on_gpus(result)
    ]


def _on_gpus(result: "FitResult") -> "list[DeviceBytes]":
    return [device for device in result.trial.choice.footprint.devices if not device.on_host]


def _measured_on(result: "FitResult") -> str:
    return "GPU" if result.trial.measured_as_planned and result.trial.choice.placement.n_gpu_layers else "CPU"


def _print_report(result: "FitResult", request: "PlanRequest") -> None:
    from toolkit.launch import llama_arguments, llama_server_command, uses_overrides
    from toolkit.units import format_duration

    click.echo(_headline(result))
    click.echo()
    _print_memory(result, request)
    click.echo()
    _print_measurements(result)
    if result.runners_up:
        click.echo()
        _print_runners_up(result)
    click.echo()
    click.echo("run it:")
    click.echo(f"  {llama_server_command(result.launch)}")
    if not uses_overrides(result.launch):
        click.echo(f"  {llama_arguments(result.launch)}")
    click.echo(f"took {format_duration(result.seconds)}")


def _headline(result: "FitResult") -> str:
    from toolkit.cli.plan_report import where_words
    from toolkit.units import format_count, format_size

    choice, launch = result.trial.choice, result.launch
    bits = f", {choice.file.conversion.bits_per_weight:.2f} bits per weight" if choice.file.conversion else ""
    where = "whole on the GPU" if _is_plainly_whole(choice) else where_words(choice)
    kv = "/".join(dict.fromkeys(launch.kv_types))
    return (
        f"{launch.path}: {choice.file.profile}, {format_size(choice.file.file_bytes)}{bits}; {where} at a context of "
        f"{format_count(launch.n_ctx)} with {kv} KV"
    )


def _is_plainly_whole(choice: "PlannedChoice") -> bool:
    return choice.fits_whole and choice.placement.n_gpu_layers > 0 and len(choice.placement.tensor_split) < 2


def _print_memory(result: "FitResult", request: "PlanRequest") -> None:
    from toolkit.cli.tables import print_table
    from toolkit.plan import devices_with_budgets
    from toolkit.units import format_size

    devices = devices_with_budgets(result.trial.choice, request.budgets)
    several = sum(not device.on_host for device, _ in devices) > 1
    rows = [
        (
            "RAM" if device.on_host else device.name if several else "GPU",
            *(format_size(size) for size in (device.weights_bytes, device.kv_cache_bytes, device.compute_bytes)),
            format_size(device.total_bytes),
            "" if device.on_host else format_size(budget),
        )
        for device, budget in devices
    ]
    print_table(("memory", "weights", "KV cache", "compute", "total", "budget"), rows, right=(1, 2, 3, 4, 5))
    if _on_gpus(result):
        click.echo(_allocation(result, request))
    click.echo(f"answered by {result.trial.choice.footprint.answered_by}")


def _allocation(result: "FitResult", request: "PlanRequest") -> str:
    from toolkit.units import format_size

    predicted, allocated = result.trial.choice.footprint.gpu_bytes, result.trial.allocated
    kept = f"{format_size(request.budgets.margin_bytes)} kept free"
    if allocated is None:
        return f"what was allocated is not known: this build of llama.cpp does not tell; {kept}"
    same = allocated.gpu_bytes == predicted
    verdict = "as predicted to the byte" if same else f"predicted {predicted:,}"
    return f"allocated on the GPU when loaded: {allocated.gpu_bytes:,} bytes, {verdict}; {kept}"


def _print_measurements(result: "FitResult") -> None:
    quality, rates = result.trial.quality, result.trial.rates
    click.echo(
        f"perplexity {quality.file.perplexity:.4f} ± {quality.file.standard_error:.4f}, unquantized "
        f"{quality.baseline.perplexity:.4f}: {quality.increase:+.2%} on {quality.file.tokens:,} tokens"
    )
    for trial in result.rejected:
        click.echo(f"rejected {trial.choice.file.profile}: perplexity {trial.quality.increase:+.2%}")
    as_planned = result.trial.measured_as_planned
    where = "as planned" if as_planned else "CPU only: llama-cpp-python sees no GPU here"
    click.echo(
        f"prompt {rates.prompt_tokens_per_second:.1f} ± {rates.prompt_tokens_per_second_stddev:.1f} tokens/s, "
        f"generation {rates.generation_tokens_per_second:.1f} ± {rates.generation_tokens_per_second_stddev:.1f} tokens/s ({where})"
    )


def _print_runners_up(result: "FitResult") -> None:
    from toolkit.cli.tables import print_table
    from toolkit.units import format_size

    rows = [
        (
            choice.file.profile,
            "/".join(dict.fromkeys((choice.settings.kv_type_k, choice.settings.kv_type_v))),
            str(choice.placement.n_gpu_layers),
            format_size(choice.file.file_bytes),
            format_size(choice.footprint.gpu_bytes),
        )
        for choice in result.runners_up
    ]
    print_table(("runner-up", "KV", "layers on GPU", "file", "GPU memory"), rows, right=(2, 3, 4))
