"""`fit`: the main job, from a checkpoint and a budget to a file that fits, with proof."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit.cli.common import COUNT, SIZE, emit_json, json_option, note, warn
from toolkit.cli.source import local_files_option, resolve_source

if TYPE_CHECKING:
    from toolkit.fit import FitResult, MeasureOptions
    from toolkit.fit_plan import Candidate, FitRequest
    from toolkit.model_source import ModelSource

EXAMPLE = """
\b
Examples:
  gguf-toolkit fit demo --vram 16MiB --ctx 512
  gguf-toolkit fit ./SmolLM2-135M-Instruct --vram 1GiB --ctx 8k --json
  gguf-toolkit fit ./model --vram 8GiB --ctx 16k --prefer quality --out models/
"""


@click.command(epilog=EXAMPLE)
@click.argument("source", metavar="SRC")
@click.option("--vram", type=SIZE, required=True, help="Budget of GPU memory, e.g. 8GiB.")
@click.option("--ctx", "n_ctx", type=COUNT, default="4k", show_default=True, help="Context length, e.g. 16k.")
@click.option("--margin", type=SIZE, help="GPU memory to leave free; default: 6 % of --vram, at most 512 MiB.")
@click.option(
    "--prefer",
    type=click.Choice(["balance", "speed", "quality"]),
    default="balance",
    show_default=True,
    help="Where nothing of 4 bits or more fits whole: split Q4_K_M, take a smaller file, or split a larger one.",
)
@click.option("--profile", "-p", "profiles", multiple=True, help="Only this profile; repeatable, best first.")
@click.option("--kv", type=click.Choice(["f16", "q8_0"]), help="Only this type of KV cache; default: f16 before q8_0.")
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
@local_files_option
@json_option
def command(source: str, **options: Any) -> None:
    """Make the best GGUF file of the checkpoint SRC that fits a VRAM budget, and prove it.

    SRC is a directory, a model on the hub (org/name[@revision]), or `demo`. Memory is asked of llama.cpp before anything is converted. The file is loaded, its perplexity is compared with the
    unquantized model's and its token rates are measured; if it lost too much, a heavier profile with fewer layers on the
    GPU takes its place. Without a GPU it plans for the budget all the same and measures on the CPU.
    """
    from toolkit.hf_source import source_from_checkpoint

    directory = resolve_source(source, local_files_only=options["local_files_only"])
    model = source_from_checkpoint(directory, options["pre"])
    for message in model.warnings:
        warn(message)
    request = _request(model, options)
    result = _run(model, request, _measure_options(options), options)
    if options["as_json"]:
        emit_json("fit", document(result, request))
    else:
        _print_report(result, request)


def _request(model: "ModelSource", options: dict[str, Any]) -> "FitRequest":
    from toolkit.devices import list_gpus, read_ram
    from toolkit.fit_plan import KV_TYPES, LADDER, FitRequest
    from toolkit.planner import Budget, Prefer
    from toolkit.quant_profile import load_profile
    from toolkit.units import MIB, format_size

    vram, margin = options["vram"], options["margin"]
    if margin is None:
        margin = min(512 * MIB, vram * 6 // 100)
    gpus = list_gpus().gpus
    if gpus and gpus[0].free_bytes < vram:
        warn(f"{gpus[0].name} has {format_size(gpus[0].free_bytes)} free now, less than --vram {format_size(vram)}")
    trained = model.metadata.get(f"{model.traits.architecture}.context_length")
    if trained is not None and isinstance(trained.value, int) and options["n_ctx"] > trained.value:
        warn(f"--ctx {options['n_ctx']:,} is beyond the {trained.value:,} tokens that the model was trained for")
    return FitRequest(
        Budget(vram, margin),
        options["n_ctx"],
        read_ram().available_bytes,
        Prefer(options["prefer"]),
        tuple(load_profile(name).name for name in options["profiles"]) or LADDER,
        (options["kv"],) if options["kv"] else KV_TYPES,
    )


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


def _run(
    model: "ModelSource", request: "FitRequest", measure: "MeasureOptions", options: dict[str, Any]
) -> "FitResult":
    from toolkit.cli.conversion import output_path
    from toolkit.cli.progress import progress_bar
    from toolkit.convert import ConversionOptions
    from toolkit.file_check import check_loads
    from toolkit.fit import FitJob, Watcher, fit
    from toolkit.imatrix import read_imatrix
    from toolkit.output_file import check_output

    def output_for(candidate: "Candidate") -> Path:
        path = output_path(options["out"], model.name, candidate.plan.profile.name)
        check_output(path, force=options["force"])
        return path

    imatrix = read_imatrix(options["imatrix"]) if options["imatrix"] else None
    largest = sum(tensor.source.type.tensor_bytes(tensor.shape) for tensor in model.tensors)
    with progress_bar("converting", largest) as advance:
        conversion = ConversionOptions(options["threads"], options["force"], progress=advance, check=check_loads)
        return fit(FitJob(model, request, measure, imatrix), output_for, Watcher(note, conversion))


def document(result: "FitResult", request: "FitRequest") -> dict[str, Any]:
    """Return the JSON document of a fit."""
    from dataclasses import asdict

    from toolkit.launch import llama_arguments, llama_server_command

    quality = result.trial.quality
    return {
        "output": str(result.launch.path),
        "seconds": result.seconds,
        "choices": [_choice(candidate, request) for candidate in (result.trial.candidate, *result.runners_up)],
        "rejected": [
            {"profile": trial.candidate.plan.profile.name, "perplexity_increase": trial.quality.increase}
            for trial in result.rejected
        ],
        "answered_by": result.trial.candidate.choice.split.footprint.answered_by,
        "allocated_bytes": result.trial.allocated.gpu_bytes,
        "predicted_bytes": result.trial.candidate.choice.split.footprint.gpu_bytes,
        "file_bytes": result.trial.candidate.plan.file_bytes,
        "bits_per_weight": result.trial.candidate.plan.bits_per_weight,
        "perplexity": quality.file.perplexity,
        "standard_error": quality.file.standard_error,
        "tokens": quality.file.tokens,
        "baseline_perplexity": quality.baseline.perplexity,
        "perplexity_increase": quality.increase,
        "measured_on": "GPU" if result.trial.measured_on_gpu else "CPU",
        **asdict(result.trial.rates),
        "llama_server": llama_server_command(result.launch),
        "llama_cpp_python": llama_arguments(result.launch),
    }


def _choice(candidate: "Candidate", request: "FitRequest") -> dict[str, Any]:
    choice = candidate.choice
    return {
        "profile": choice.profile,
        "context_length": request.n_ctx,
        "kv_type_k": choice.kv_type,
        "kv_type_v": choice.kv_type,
        "n_gpu_layers": choice.split.n_gpu_layers,
        "tensor_buft_overrides": [],
        "fits": True,
        "fits_whole": choice.split.fits_whole,
        "predicted_tokens_per_second": None,
        "file_bytes": choice.file_bytes,
        "devices": [
            {
                "name": device.name,
                "budget_bytes": request.ram_bytes if device.on_host else request.budget.vram_bytes,
                "weights_bytes": device.weights_bytes,
                "kv_cache_bytes": device.kv_cache_bytes,
                "compute_bytes": device.compute_bytes,
                "unaccounted_bytes": 0 if device.on_host else request.budget.margin_bytes,
            }
            for device in choice.split.footprint.devices
        ],
    }


def _print_report(result: "FitResult", request: "FitRequest") -> None:
    from toolkit.launch import llama_arguments, llama_server_command
    from toolkit.units import format_duration

    click.echo(_headline(result, request))
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
    click.echo(f"  {llama_arguments(result.launch)}")
    click.echo(f"took {format_duration(result.seconds)}")


def _headline(result: "FitResult", request: "FitRequest") -> str:
    from toolkit.units import format_count, format_size

    plan, split = result.trial.candidate.plan, result.trial.candidate.choice.split
    layers = request_layers(result)
    where = "whole on the GPU" if split.fits_whole else f"{split.n_gpu_layers} of {layers} layers on the GPU"
    return (
        f"{result.launch.path}: {plan.profile.name}, {format_size(plan.file_bytes)}, {plan.bits_per_weight:.2f} bits per weight; "
        f"{where} at a context of {format_count(request.n_ctx)} with {result.launch.kv_type} KV"
    )


def request_layers(result: "FitResult") -> int:
    """Return the number of layers that can be offloaded: all blocks, and the output."""
    count = result.trial.candidate.plan.metadata
    blocks = next(value.value for key, value in count.items() if key.endswith(".block_count"))
    return int(str(blocks)) + 1


def _print_memory(result: "FitResult", request: "FitRequest") -> None:
    from toolkit.cli.tables import print_table
    from toolkit.units import format_size

    footprint = result.trial.candidate.choice.split.footprint
    rows = [
        (
            "RAM" if device.on_host else "GPU",
            format_size(device.weights_bytes),
            format_size(device.kv_cache_bytes),
            format_size(device.compute_bytes),
            format_size(device.total_bytes),
            "" if device.on_host else format_size(request.budget.vram_bytes),
        )
        for device in sorted(footprint.devices, key=lambda device: device.on_host)
    ]
    print_table(("memory", "weights", "KV cache", "compute", "total", "budget"), rows, right=(1, 2, 3, 4, 5))
    allocated, predicted = result.trial.allocated.gpu_bytes, footprint.gpu_bytes
    verdict = "as predicted to the byte" if allocated == predicted else f"predicted {predicted:,}"
    click.echo(
        f"allocated on the GPU when loaded: {allocated:,} bytes, {verdict}; "
        f"{format_size(request.budget.margin_bytes)} kept free\nanswered by {footprint.answered_by}"
    )


def _print_measurements(result: "FitResult") -> None:
    quality, rates = result.trial.quality, result.trial.rates
    click.echo(
        f"perplexity {quality.file.perplexity:.4f} ± {quality.file.standard_error:.4f}, unquantized "
        f"{quality.baseline.perplexity:.4f}: {quality.increase:+.2%} on {quality.file.tokens:,} tokens"
    )
    for trial in result.rejected:
        click.echo(f"rejected {trial.candidate.plan.profile.name}: perplexity {trial.quality.increase:+.2%}")
    where = "GPU and CPU as planned" if result.trial.measured_on_gpu else "CPU only: llama-cpp-python sees no GPU here"
    click.echo(
        f"prompt {rates.prompt_tokens_per_second:.1f} ± {rates.prompt_tokens_per_second_stddev:.1f} tokens/s, "
        f"generation {rates.generation_tokens_per_second:.1f} ± {rates.generation_tokens_per_second_stddev:.1f} tokens/s ({where})"
    )


def _print_runners_up(result: "FitResult") -> None:
    from toolkit.cli.tables import print_table
    from toolkit.units import format_size

    rows = [
        (
            candidate.choice.profile,
            candidate.choice.kv_type,
            str(candidate.choice.split.n_gpu_layers),
            format_size(candidate.choice.file_bytes),
            format_size(candidate.choice.split.footprint.gpu_bytes),
        )
        for candidate in result.runners_up
    ]
    print_table(("runner-up", "KV", "layers on GPU", "file", "GPU memory"), rows, right=(2, 3, 4))
