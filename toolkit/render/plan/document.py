"""A plan as JSON, and every choice that other documents speak of."""

from dataclasses import asdict
from typing import Any

from toolkit.llama.footprint import DeviceBytes
from toolkit.memory.estimate import ESTIMATE
from toolkit.planning.choice import PlannedChoice, devices_with_budgets, state_bytes
from toolkit.planning.request import PlanningRequest
from toolkit.render.plan.launch import llama_server_command
from toolkit.verbs.plan import PlanResult


def plan_document(result: PlanResult) -> dict[str, Any]:
    """Return the JSON document of a plan."""
    choices, model, companions = result.choices, result.model, result.companions
    return {
        "model": model.name,
        "n_ctx_train": model.trained_context,
        "answered_by": choices[0].footprint.answered_by if choices else None,
        "estimated": any(choice.footprint.answered_by == ESTIMATE for choice in choices),
        "file_bytes_exact": not model.estimated_file_bytes,
        "bandwidth_origin": result.request.bandwidths.origin,
        "measured_overhead_bytes": result.request.overhead_bytes,
        "companions": [asdict(companion) | {"path": str(companion.path)} for companion in companions],
        "choices": [
            choice_document(choice, result.request) | {"llama_server": llama_server_command(result.launch(choice))}
            for choice in choices
        ],
    }


def choice_document(choice: PlannedChoice, request: PlanningRequest) -> dict[str, Any]:
    """Return the part of a document that describes a choice."""
    settings, states = choice.settings, state_bytes(choice)
    return {
        "profile": choice.file.profile,
        "n_ctx": settings.n_ctx,
        "n_ctx_seq": context_per_sequence(choice),
        "n_parallel": settings.n_parallel,
        "kv_type_k": settings.kv_types.k,
        "kv_type_v": settings.kv_types.v,
        "n_gpu_layers": choice.placement.n_gpu_layers,
        "n_layers": choice.n_layers,
        "n_cpu_moe": choice.placement.n_cpu_moe,
        "tensor_buft_overrides": [
            f"{override.pattern}={override.buffer_type}" for override in choice.placement.overrides
        ],
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


def _device(device: DeviceBytes) -> dict[str, Any]:
    names = ("name", "weights_bytes", "kv_cache_bytes", "compute_bytes", "outputs_bytes", "mappable_bytes")
    return {name: getattr(device, name) for name in names}


def context_per_sequence(choice: PlannedChoice) -> int:
    """Return the tokens that one sequence can have: an equal part, or all of them where the cache is unified."""
    settings = choice.settings
    return settings.n_ctx if settings.kv_unified else settings.n_ctx // settings.n_parallel
