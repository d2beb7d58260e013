"""Token rates as text and as JSON."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from toolkit.render.loading import devices_document
from toolkit.render.tables import table_lines
from toolkit.units import format_duration, format_size
from toolkit.verbs.bench import BenchLoad, BenchResult, BenchRow
from toolkit.verbs.loading import as_predicted

_WAITING = {
    "passive": "threads wait for each other passively, as where other processes take the cores",
    "active": "threads wait for each other actively, as where the cores are free (OMP_WAIT_POLICY=passive changes that)",
    "spinning": "threads wait for each other actively: this build of llama.cpp is without OpenMP",
}
_HEADER = ("layers", "KV", "threads", "depth", "prompt tokens/s", "generated tokens/s")


def bench_lines(result: BenchResult) -> list[str]:
    """Return the table of rates, what each load holds, and how threads wait."""
    loads = list({id(row.load): row.load for row in result.rows}.values())
    return [
        *table_lines(_HEADER, [_cells(row) for row in result.rows], right=(0, 2, 3, 4, 5)),
        "",
        *(line for load in loads for line in _load_lines(load, several=len(loads) > 1)),
        _WAITING[result.thread_waiting],
    ]


def bench_document(result: BenchResult) -> dict[str, Any]:
    """Return the JSON document; the first row's rates stand at its top as well."""
    return {
        "model": str(result.gguf),
        **asdict(result.rows[0].rate),
        "thread_waiting": result.thread_waiting,
        "results": [_row_document(row) for row in result.rows],
    }


def _row_document(row: BenchRow) -> dict[str, Any]:
    settings = row.load.plan.settings
    return {
        "n_prompt": row.settings.n_prompt,
        "n_generate": row.settings.n_generate,
        "n_depth": row.settings.n_depth,
        "repetitions": row.settings.repetitions,
        "n_gpu_layers": settings.n_gpu_layers,
        "kv_type_k": settings.kv_types.k,
        "kv_type_v": settings.kv_types.v,
        "threads": row.load.how.threads,
        **asdict(row.rate),
        "load_seconds": row.load.seconds,
        "devices": devices_document(row.load.devices),
    }


def _cells(row: BenchRow) -> tuple[str, ...]:
    rate, plan, threads = row.rate, row.load.plan, row.load.how.threads
    return (
        f"{plan.settings.n_gpu_layers}/{plan.choice.n_layers}",
        row.load.how.kv,
        "" if threads is None else str(threads),
        str(row.settings.n_depth),
        _rate(row.settings.n_prompt, rate.prompt_tokens_per_second, rate.prompt_tokens_per_second_stddev),
        _rate(row.settings.n_generate, rate.generation_tokens_per_second, rate.generation_tokens_per_second_stddev),
    )


def _rate(count: int, mean: float | None, deviation: float | None) -> str:
    return "" if mean is None or deviation is None else f"{count}: {mean:.2f} ± {deviation:.2f}"


def _load_lines(load: BenchLoad, *, several: bool) -> Iterator[str]:
    name = f"{load.how.kv} KV, layers {load.plan.settings.n_gpu_layers}: " if several else ""
    for device in load.devices:
        yield (
            f"{name}{device.name} holds {format_size(device.allocated_bytes)}: weights {format_size(device.weights_bytes)}, "
            f"KV cache {format_size(device.kv_cache_bytes)}, compute {format_size(device.compute_bytes)}; "
            f"{as_predicted(device.predicted_bytes, device.allocated_bytes)}"
        )
    yield f"{name}loaded in {format_duration(load.seconds)}"
