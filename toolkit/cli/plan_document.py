"""The JSON document of `plan`, and of every choice that other commands speak of."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toolkit.llama.footprint import DeviceBytes
    from toolkit.memory.plannable import PlannableModel
    from toolkit.planning.choice import PlannedChoice
    from toolkit.planning.companions import Companion
    from toolkit.planning.launch import LaunchPlan
    from toolkit.planning.request import PlanRequest


@dataclass(frozen=True)
class Report:
    """All that is printed."""

    choices: "tuple[PlannedChoice, ...]"
    model: "PlannableModel"
    request: "PlanRequest"
    companions: "tuple[Companion, ...]" = ()


def document(report: Report) -> dict[str, Any]:
    """Return the JSON document of a plan."""
    from toolkit.memory.estimate import ESTIMATE
    from toolkit.planning.launch import llama_server_command

    choices, model, companions = report.choices, report.model, report.companions
    return {
        "model": model.name,
        "trained_context_length": model.trained_context,
        "answered_by": choices[0].footprint.answered_by if choices else None,
        "estimated": any(choice.footprint.answered_by == ESTIMATE for choice in choices),
        "file_bytes_exact": not model.estimated_file_bytes,
        "bandwidth_origin": report.request.bandwidths.origin,
        "measured_overhead_bytes": report.request.overhead_bytes,
        "companions": [asdict(companion) | {"path": str(companion.path)} for companion in companions],
        "choices": [
            choice_document(choice, report.request) | {"llama_server": llama_server_command(launched(choice, report))}
            for choice in choices
        ],
    }


def choice_document(choice: "PlannedChoice", request: "PlanRequest") -> dict[str, Any]:
    """Return the part of a document that describes a choice."""
    from toolkit.planning.choice import devices_with_budgets, state_bytes

    settings, states = choice.settings, state_bytes(choice)
    return {
        "profile": choice.file.profile,
        "context_length": settings.n_ctx,
        "context_length_per_sequence": context_per_sequence(choice),
        "parallel": settings.n_parallel,
        "kv_type_k": settings.kv_type_k,
        "kv_type_v": settings.kv_type_v,
        "n_gpu_layers": choice.placement.n_gpu_layers,
        "n_layers": choice.n_layers,
        "n_cpu_moe": choice.placement.n_cpu_moe,
        "tensor_buft_overrides": [f"{one.pattern}={one.buffer_type}" for one in choice.placement.overrides],
        "tensor_split": list(choice.placement.tensor_split),
        "fits": choice.fits,
        "fits_whole": choice.fits and choice.fits_whole,
        "uses_gpu": choice.placement.n_gpu_layers > 0,
        "missing_bytes": choice.missing_bytes,
        "first_layer_lacks_bytes": choice.first_layer_lacks_bytes,
        "whole_lacks_bytes": choice.whole.lacks_bytes if choice.whole is not None else 0,
        "predicted_tokens_per_second": choice.tokens_per_second if choice.fits else None,
        "file_bytes": choice.file.file_bytes,
        "devices": [
            _device(device)
            | {
                "budget_bytes": budget,
                "recurrent_state_bytes": states.get(device.name, 0),
                "unaccounted_bytes": 0 if device.on_host else request.budgets.margin_bytes,
            }
            for device, budget in devices_with_budgets(choice, request.budgets)
        ],
    }


def _device(device: "DeviceBytes") -> dict[str, Any]:
    names = ("name", "weights_bytes", "kv_cache_bytes", "compute_bytes", "outputs_bytes", "mappable_bytes")
    return {name: getattr(device, name) for name in names}


def context_per_sequence(choice: "PlannedChoice") -> int:
    """Return the tokens that one sequence can have: an equal part, or all of them where the cache is unified."""
    settings = choice.settings
    return settings.n_ctx if settings.kv_unified else settings.n_ctx // settings.n_parallel


def launched(choice: "PlannedChoice", report: Report) -> "LaunchPlan":
    """Return how to run a choice; a file that is not made yet goes by the name that `convert` gives it."""
    from toolkit.planning.launch import launch_plan

    model, beside = report.model, {companion.role: companion.path for companion in report.companions}
    path = model.path or Path(f"{model.name}-{choice.file.profile}.gguf")
    return replace(launch_plan(choice, path), mmproj=beside.get("mmproj"), draft=beside.get("draft"))
