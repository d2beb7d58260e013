"""A file that fits, as text and as JSON: what it takes, what it lost, how fast it is, and how to run it."""

from dataclasses import asdict
from typing import Any

from toolkit.fitting.quality import Proof
from toolkit.fitting.trials import FitResult
from toolkit.llama.footprint import DeviceBytes
from toolkit.planning.choice import PlannedChoice, devices_with_budgets
from toolkit.render.plan import choice_document, where_it_lies
from toolkit.render.plan.launch import llama_arguments, llama_server_command, uses_overrides
from toolkit.render.tables import table_lines
from toolkit.render.verdicts import verdict_document
from toolkit.units import format_count, format_duration, format_size


def fit_document(result: FitResult) -> dict[str, Any]:
    """Return the JSON document of a fit."""
    trial, conversion = result.trial, result.trial.choice.file.conversion
    return {
        "output": str(result.launch.path),
        "seconds": result.seconds,
        "choices": [choice_document(choice, result.request) for choice in (trial.choice, *result.runners_up)],
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
        **_quality_document(trial.quality),
        "measured_on": _measured_on(result),
        **asdict(trial.rates),
        "llama_server": llama_server_command(result.launch),
        "llama_cpp_python": llama_arguments(result.launch),
    }


def _quality_document(quality: Proof) -> dict[str, Any]:
    """Return what the file lost, and what that is worth for the use that was named."""
    divergence = quality.file.divergence
    return {
        "perplexity": quality.file.perplexity.value,
        "standard_error": quality.file.perplexity.error,
        "perplexity_standard_error": quality.file.perplexity.error,
        "tokens": quality.file.tokens,
        "base_perplexity": quality.baseline.perplexity.value,
        "perplexity_increase": quality.increase,
        "mean_kld": divergence.mean.value if divergence is not None else None,
        "same_top_fraction": divergence.same_top.value if divergence is not None else None,
        "verdict": verdict_document(quality.verdict) if quality.verdict is not None else None,
    }


def _devices_document(result: FitResult) -> list[dict[str, Any]]:
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


def _on_gpus(result: FitResult) -> list[DeviceBytes]:
    return [device for device in result.trial.choice.footprint.devices if not device.on_host]


def _measured_on(result: FitResult) -> str:
    return "GPU" if result.trial.measured_as_planned and result.trial.choice.placement.n_gpu_layers else "CPU"


def fit_lines(result: FitResult) -> list[str]:
    """Return the file, what it takes, what it lost, how fast it is, and how to run it."""
    lines = [_headline(result), "", *_memory_lines(result), "", *_measurement_lines(result)]
    if result.runners_up:
        lines += ["", *_runner_up_lines(result)]
    lines += ["", "run it:", f"  {llama_server_command(result.launch)}"]
    if not uses_overrides(result.launch):
        lines.append(f"  {llama_arguments(result.launch)}")
    return [*lines, f"took {format_duration(result.seconds)}"]


def _headline(result: FitResult) -> str:
    choice, launch = result.trial.choice, result.launch
    bits = f", {choice.file.conversion.bits_per_weight:.2f} bits per weight" if choice.file.conversion else ""
    where = "whole on the GPU" if _is_plainly_whole(choice) else where_it_lies(choice)
    kv = str(launch.kv_types)
    return (
        f"{launch.path}: {choice.file.profile}, {format_size(choice.file.file_bytes)}{bits}; {where} at a context of "
        f"{format_count(launch.n_ctx)} with {kv} KV"
    )


def _is_plainly_whole(choice: PlannedChoice) -> bool:
    return choice.fits_whole and choice.placement.n_gpu_layers > 0 and len(choice.placement.tensor_split) < 2


def _memory_lines(result: FitResult) -> list[str]:
    devices = devices_with_budgets(result.trial.choice, result.request.budgets)
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
    header = ("memory", "weights", "KV cache", "compute", "total", "budget")
    return [
        *table_lines(header, rows, right=(1, 2, 3, 4, 5)),
        *([_allocation(result)] if _on_gpus(result) else []),
        f"answered by {result.trial.choice.footprint.answered_by}",
    ]


def _allocation(result: FitResult) -> str:
    predicted, allocated = result.trial.choice.footprint.gpu_bytes, result.trial.allocated
    kept = f"{format_size(result.request.budgets.margin_bytes)} kept free"
    if allocated is None:
        return f"what was allocated is not known: this build of llama.cpp does not tell; {kept}"
    same = allocated.gpu_bytes == predicted
    verdict = "as predicted to the byte" if same else f"predicted {predicted:,}"
    return f"allocated on the GPU when loaded: {allocated.gpu_bytes:,} bytes, {verdict}; {kept}"


def _measurement_lines(result: FitResult) -> list[str]:
    quality, rates, divergence = result.trial.quality, result.trial.rates, result.trial.quality.file.divergence
    lines = [
        f"perplexity {quality.file.perplexity.value:.4f} ± {quality.file.perplexity.error:.4f}, unquantized "
        f"{quality.baseline.perplexity.value:.4f}: {quality.increase:+.2%} on {quality.file.tokens:,} tokens"
    ]
    if divergence is not None:
        lines.append(
            f"mean KLD {divergence.mean.value:.5f} ± {divergence.mean.error:.5f}, same top token {divergence.same_top.value:.1%}"
        )
    if quality.verdict is not None:
        lines.append(quality.verdict.sentence)
    lines += [f"rejected {trial.choice.file.profile}: {trial.quality.summary}" for trial in result.rejected]
    as_planned = result.trial.measured_as_planned
    where = "as planned" if as_planned else "CPU only: llama-cpp-python sees no GPU here"
    return [
        *lines,
        f"prompt {rates.prompt_tokens_per_second:.1f} ± {rates.prompt_tokens_per_second_stddev:.1f} tokens/s, "
        f"generation {rates.generation_tokens_per_second:.1f} ± {rates.generation_tokens_per_second_stddev:.1f} tokens/s ({where})",
    ]


def _runner_up_lines(result: FitResult) -> list[str]:
    rows = [
        (
            choice.file.profile,
            str(choice.settings.kv_types),
            str(choice.placement.n_gpu_layers),
            format_size(choice.file.file_bytes),
            format_size(choice.footprint.gpu_bytes),
        )
        for choice in result.runners_up
    ]
    return table_lines(("runner-up", "KV", "layers on GPU", "file", "GPU memory"), rows, right=(2, 3, 4))
