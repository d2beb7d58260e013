"""Conversions as text and as JSON: of checkpoints, GGUF files and adapters, and merged files."""

from collections import defaultdict
from typing import Any

from toolkit.conversion.tensor_plan import ConversionPlan, TensorPlan
from toolkit.render.tables import table_lines
from toolkit.units import format_count, format_duration, format_size
from toolkit.verbs.conversion import ConversionResult
from toolkit.verbs.convert_lora import ConvertLoraResult
from toolkit.verbs.merge import MergeResult


def conversion_lines(result: ConversionResult, *, verbose: bool = False) -> list[str]:
    """Return the types and sizes of a conversion; of a dry run with a line a tensor."""
    lines = [] if result.written else _tensor_lines(result.plan)
    if len(result.shards) > 1:
        lines += _file_lines(result)
    lines += _summary_lines(result) + kept_lines(result.plan, every_tensor=verbose)
    if result.written:
        others = f" and {len(result.paths) - 1} more" if len(result.paths) > 1 else ""
        lines.append(f"wrote {result.paths[0]}{others} in {format_duration(result.seconds)}")
    return lines


def conversion_document(result: ConversionResult) -> dict[str, Any]:
    """Return the JSON document of a conversion; `output`, the file or the first of them, is null for a dry run."""
    plan = result.plan
    return {
        "output": str(result.paths[0]) if result.written else None,
        "files": [
            {"path": str(path), "file_bytes": shard.layout.file_bytes, "n_tensors": len(shard.tensors)}
            for path, shard in zip(result.paths, result.shards, strict=True)
        ],
        "profile": plan.profile.name,
        "file_bytes": result.file_bytes,
        "bits_per_weight": plan.bits_per_weight,
        "fallback_share": plan.fallback_share,
        "seconds": result.seconds,
        "tensors": [_tensor_document(tensor) for tensor in plan.tensors],
    }


def lora_lines(result: ConvertLoraResult) -> list[str]:
    """Return the line about a converted adapter."""
    plan = result.plan
    alpha, architecture = (plan.metadata[key].value for key in ("adapter.lora.alpha", "general.architecture"))
    return [
        f"wrote {result.output} ({format_size(plan.file_bytes)}) for {architecture}: {len(plan.tensors) // 2} weights, "
        f"alpha {alpha:g}, in {format_duration(result.seconds)}"
    ]


def lora_document(result: ConvertLoraResult) -> dict[str, Any]:
    """Return the JSON document of a converted adapter."""
    plan = result.plan
    return {
        "output": str(result.output),
        "file_bytes": plan.file_bytes,
        "architecture": plan.metadata["general.architecture"].value,
        "alpha": plan.metadata["adapter.lora.alpha"].value,
        "seconds": result.seconds,
        "tensors": [_tensor_document(tensor) for tensor in plan.tensors],
        "left_out": list(result.left_out),
    }


def merge_lines(result: MergeResult) -> list[str]:
    """Return the line about a merged file."""
    return [
        f"wrote {result.output} ({format_size(result.file_bytes)}) from {len(result.parts)} parts "
        f"in {format_duration(result.seconds)}"
    ]


def merge_document(result: MergeResult) -> dict[str, Any]:
    """Return the JSON document of a merged file."""
    parts = [str(part) for part in result.parts]
    return {
        "output": str(result.output),
        "parts": parts,
        "file_bytes": result.file_bytes,
        "seconds": result.seconds,
    }


def kept_lines(plan: ConversionPlan, *, every_tensor: bool) -> list[str]:
    """Return which tensors are kept as the source has them, and how far they are from it at most."""
    kept = [tensor for tensor in plan.tensors if tensor.kept]
    if not kept:
        return []
    lines = [
        f"kept {tensor.name}: {tensor.type.name}, {_difference(tensor.worst_difference)}"
        for tensor in kept
        if every_tensor
    ]
    worst = max(kept, key=lambda tensor: tensor.worst_difference)
    where = f" ({worst.name})" if worst.worst_difference else ""
    difference = _difference(worst.worst_difference)
    return [*lines, f"kept {len(kept)} tensors as the source has them: {difference}{where}"]


def _difference(worst: float) -> str:
    return f"at most {worst:.3g} from it, one float16 rounding of a minimum" if worst else "equal to it"


def _tensor_document(tensor: TensorPlan) -> dict[str, Any]:
    kept = {"worst_difference": tensor.worst_difference} if tensor.kept else {}
    return {"name": tensor.name, "type": tensor.type.name, "shape": list(tensor.shape), "bytes": tensor.n_bytes} | kept


def _tensor_lines(plan: ConversionPlan) -> list[str]:
    rows = [
        (tensor.name, " x ".join(map(str, tensor.shape)), _type_name(tensor), format_size(tensor.n_bytes))
        for tensor in plan.tensors
    ]
    return table_lines(("tensor", "shape", "type", "bytes"), rows, right=(3,))


def _type_name(tensor: TensorPlan) -> str:
    return tensor.type.name + (f" (for {tensor.fallback_from.name})" if tensor.fallback_from else "")


def _file_lines(result: ConversionResult) -> list[str]:
    rows = [
        (path.name, str(len(shard.tensors)), format_size(shard.layout.file_bytes))
        for path, shard in zip(result.paths, result.shards, strict=True)
    ]
    return table_lines(("file", "tensors", "bytes"), rows, right=(1, 2))


def _summary_lines(result: ConversionResult) -> list[str]:
    plan = result.plan
    groups: dict[str, list[TensorPlan]] = defaultdict(list)
    for tensor in plan.tensors:
        groups[tensor.type.name].append(tensor)
    sizes = {name: sum(tensor.n_bytes for tensor in group) for name, group in groups.items()}
    total = sum(sizes.values())
    rows = [
        (name, str(len(groups[name])), format_size(size), f"{size / total:.1%}")
        for name, size in sorted(sizes.items(), key=lambda item: -item[1])
    ]
    weights = sum(tensor.n_weights for tensor in plan.tensors)
    return [
        *table_lines(("type", "tensors", "bytes", "share"), rows, right=(1, 2, 3)),
        f"{plan.profile.name}: {format_size(result.file_bytes)} ({format_count(result.file_bytes)} bytes), "
        f"{format_count(weights)} parameters, {plan.bits_per_weight:.2f} bits per weight",
    ]
