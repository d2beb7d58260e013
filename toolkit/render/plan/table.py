"""A plan as a table for people."""

from collections.abc import Sequence

from toolkit.llama.footprint import DeviceBytes
from toolkit.memory.plannable import PlannableModel
from toolkit.planning.choice import PlannedChoice, devices_with_budgets, state_bytes
from toolkit.planning.companions import Companion
from toolkit.render.plan.document import context_per_sequence
from toolkit.render.tables import table_lines
from toolkit.units import format_size
from toolkit.verbs.plan import PlanResult

BAR = 40
_PARTS = (("weights_bytes", "#"), ("kv_cache_bytes", "="), ("compute_bytes", "+"))


def table(result: PlanResult) -> list[str]:
    """Return a headline, a bar for every device, the ranked choices, and what would help."""
    model, request, best = result.model, result.request, result.best
    states = state_bytes(best)
    lines = [_headline(best, model), _context_line(best), ""]
    for device, budget in devices_with_budgets(best, request.budgets):
        margin = 0 if device.on_host else request.budgets.margin_bytes
        lines.append(_bar(device, budget, margin, states.get(device.name, 0)))
    lines += map(_companion, result.companions)
    lines += [f"{'':6}# weights  = KV cache and states  + compute  ~ kept free", ""]
    lines += _choice_lines(result.choices, model)
    if not request.on_cpu:
        lines.append(_kept_free(request.budgets.margin_bytes, request.overhead_bytes))
    lines.append(f"answered by {best.footprint.answered_by}; rates from {request.bandwidths.origin} bandwidths")
    return lines + advice_for(best)


def _headline(choice: PlannedChoice, model: PlannableModel) -> str:
    placement, settings = choice.placement, choice.settings
    kv = str(settings.kv_types)
    size = f"{'about ' if model.estimated_file_bytes else ''}{format_size(choice.file.file_bytes)}"
    start = f"{model.name}: {choice.file.profile}, {size}, {kv} KV"
    if not choice.fits:
        return f"{start}: does not fit, {format_size(choice.missing_bytes)} too much"
    return f"{start}; {where_it_lies(choice)}; about {_rate(choice.tokens_per_second)} tokens/s{_split_words(placement.tensor_split)}"


def _rate(tokens_per_second: float) -> str:
    """Return a rate with the two or three digits that a prediction deserves."""
    return f"{tokens_per_second:.1f}" if tokens_per_second < 100 else f"{round(tokens_per_second, -1):,.0f}"


def where_it_lies(choice: PlannedChoice) -> str:
    """Say which layers and experts lie where."""
    placement, total = choice.placement, choice.n_layers
    if not placement.n_gpu_layers:
        return "on the CPU alone" + (": not one layer fits the GPU" if choice.first_layer_lacks_bytes else "")
    experts = f", experts of {_blocks(0, placement.n_cpu_moe - 1)} on the CPU" if placement.n_cpu_moe else ""
    experts += f" and {len(placement.cpu_expert_tensors)} of the next block's" if placement.cpu_expert_tensors else ""
    if placement.n_gpu_layers == total:
        return f"all {total} layers (blocks and output) on the GPU{experts}"
    first = total - placement.n_gpu_layers
    blocks = "the output" if first == total - 1 else f"{_blocks(first, total - 2)} and the output"
    return f"{placement.n_gpu_layers} of {total} layers on the GPU ({blocks}){experts}"


def _blocks(first: int, last: int) -> str:
    return f"block {first}" if first == last else f"blocks {first} to {last}"


def _split_words(tensor_split: tuple[int, ...]) -> str:
    return f"; layers per GPU {', '.join(map(str, tensor_split))}" if len(tensor_split) > 1 else ""


def _context_line(choice: PlannedChoice) -> str:
    settings = choice.settings
    if settings.n_parallel == 1:
        return f"context {settings.n_ctx:,}"
    if settings.kv_unified:
        return f"context {settings.n_ctx:,} in all, shared by {settings.n_parallel} sequences"
    each = context_per_sequence(choice)
    return f"context {settings.n_ctx:,} in all, {each:,} for each of {settings.n_parallel} sequences"


def _kept_free(margin_bytes: int, overhead_bytes: int | None) -> str:
    if overhead_bytes is None:
        why = "for the driver's context and libraries, assumed: doctor --calibrate measures them"
    else:
        why = f"a process takes {format_size(overhead_bytes)} beyond its buffers, measured"
    return f"{format_size(margin_bytes)} kept free on each GPU: {why}"


def _bar(device: DeviceBytes, budget: int, margin: int, states: int) -> str:
    scale = max(budget, device.total_bytes + margin, 1)
    cells = "".join(mark * round(BAR * getattr(device, part) / scale) for part, mark in _PARTS)
    cells += "~" * round(BAR * margin / scale)
    name = "RAM" if device.on_host else device.name
    free = budget - device.total_bytes - margin
    rest = f"{format_size(free)} free" if free >= 0 else f"{format_size(-free)} too much"
    parts = ", ".join(
        f"{name} {format_size(size)}"
        for name, size in (
            ("weights", device.weights_bytes),
            ("KV", device.kv_cache_bytes - states),
            ("recurrent states", states),
            ("compute", device.compute_bytes),
        )
        if size
    )
    mapped = f"; {format_size(device.mappable_bytes)} of the weights can be mapped" if device.mappable_bytes else ""
    return f"{name:6}[{cells[:BAR]:{BAR}}] {format_size(device.total_bytes)} of {format_size(budget)}: {parts}{mapped}; {rest}"


def _companion(companion: Companion) -> str:
    about = " (compute by formula)" if companion.estimated else ""
    return (
        f"{companion.role:6}{companion.path.name}: weights {format_size(companion.weights_bytes)}, "
        f"KV {format_size(companion.kv_cache_bytes)}, compute {format_size(companion.compute_bytes)}{about}; "
        "taken off the first budget"
    )


def _choice_lines(choices: Sequence[PlannedChoice], model: PlannableModel) -> list[str]:
    rows = [
        (
            choice.file.profile,
            format_size(choice.file.file_bytes),
            f"{choice.settings.n_ctx:,}",
            str(choice.settings.kv_types),
            f"{choice.placement.n_gpu_layers}/{choice.n_layers}" if choice.fits else "-",
            str(choice.placement.n_cpu_moe) if choice.fits else "-",
            format_size(choice.footprint.gpu_bytes),
            format_size(choice.footprint.host_bytes),
            f"{_rate(choice.tokens_per_second)}" if choice.fits else f"lacks {format_size(choice.missing_bytes)}",
        )
        for choice in choices
    ]
    header = ("profile", "file", "context", "KV", "layers on GPU", "experts on CPU", "GPU", "RAM", "tokens/s")
    lines = table_lines(header, rows, right=(1, 2, 4, 5, 6, 7, 8))
    if model.estimated_file_bytes:
        lines.append("file sizes are without the vocabulary, which config.json does not hold")
    return lines


def advice_for(choice: PlannedChoice) -> list[str]:
    """Say what would bring a split model onto the GPU whole."""
    whole, settings = choice.whole, choice.settings
    if whole is None or not whole.lacks_bytes:
        return []
    ways = []
    smaller = max(32, settings.n_ubatch // 4)
    if whole.compute_bytes * (settings.n_ubatch - smaller) > whole.lacks_bytes * settings.n_ubatch:
        ways.append(f"--ubatch {smaller}")
    shorter = (settings.n_ctx - settings.n_ctx * whole.lacks_bytes // max(1, whole.kv_cache_bytes)) // 256 * 256
    if shorter > 0:
        ways.append(f"--ctx {shorter}")
    advice = f"; {' or '.join(ways)} would do" if ways else ""
    return [f"whole on the GPU it lacks about {format_size(whole.lacks_bytes)}{advice}"]
