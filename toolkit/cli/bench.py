"""`bench`: how fast a model reads and writes, as llama-bench defines it."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit.cli.common import emit_json, json_option, warn
from toolkit.cli.files import INPUT
from toolkit.cli.kv_types import kv_list_option
from toolkit.cli.loading import (
    LoadOptions,
    as_predicted,
    devices_document,
    opened,
    place_options,
)
from toolkit.cli.options import repetitions_option
from toolkit.cli.output import echo
from toolkit.cli.places import places, warn_of_unused_gpu
from toolkit.cli.progress import value_bar

if TYPE_CHECKING:
    from toolkit.measures.token_rate import RateSettings, TokenRate
    from toolkit.planning.load_plan import LoadPlan

EXAMPLE = """
\b
Examples:
  gguf-toolkit bench model.gguf
  gguf-toolkit bench model.gguf -p 512,2048 -n 128 -d 0,4096 -r 5
  gguf-toolkit bench model.gguf -ngl 0,16,32 --kv f16,q8_0 --json
"""

_WAITING_WORDS = {
    "passive": "threads wait for each other passively, as where other processes take the cores",
    "active": "threads wait for each other actively, as where the cores are free (OMP_WAIT_POLICY=passive changes that)",
    "spinning": "threads wait for each other actively: this build of llama.cpp is without OpenMP",
}


@dataclass(frozen=True)
class Load:
    """A model as it was loaded: how, how long it took, and what it holds on every device."""

    options: LoadOptions
    seconds: float
    plan: "LoadPlan"
    devices: list[dict[str, Any]]


@dataclass(frozen=True)
class Row:
    """One measurement."""

    load: Load
    settings: "RateSettings"
    rate: "TokenRate"


def _numbers(least: int) -> Callable[[click.Context, click.Parameter, str | None], tuple[int, ...]]:
    def parse(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[int, ...]:
        parts = value.split(",") if value is not None else []
        if not all(part.strip().isdecimal() and int(part) >= least for part in parts):
            raise click.BadParameter(f"{value!r}: write numbers of at least {least}, separated by commas")
        return tuple(int(part) for part in parts)

    return parse


@click.command(epilog=EXAMPLE)
@click.argument("gguf", type=INPUT)
@click.option("-p", "prompts", default="512", show_default=True, callback=_numbers(0), help="Tokens of the prompt.")
@click.option("-n", "generate", default="128", show_default=True, callback=_numbers(0), help="Tokens to generate.")
@click.option("-d", "depths", default="0", show_default=True, callback=_numbers(0), help="Tokens that come before.")
@click.option("-ngl", "--n-gpu-layers", "layers", callback=_numbers(0), help="Layers on the GPU; default: what fits.")
@kv_list_option("f16")
@click.option("--threads", "-t", callback=_numbers(1), help="CPU threads; default: physical cores.")
@repetitions_option(5)
@place_options
@json_option
def command(gguf: Path, **options: Any) -> None:
    """Measure tokens per second: reading a prompt (-p) and generating (-n), each after -d tokens of context.

    Every option but -r takes several values, separated by commas. Rates are means of repetitions ± their sample standard
    deviation, after a warm-up, as llama-bench defines them. Threads wait passively where more of them want to run than there
    are cores, unless OMP_WAIT_POLICY says otherwise.
    """
    from toolkit.machine.load import load_warnings

    warn_of_unused_gpu()
    for message in load_warnings():
        warn(message)
    with value_bar("bench") as tell:
        rows = []
        total = _total(options)
        for row in _measure(gguf, options):
            rows.append(row)
            tell(len(rows), total, "")
    for message in spill_warnings(rows):
        warn(message)
    if options["as_json"]:
        emit_json("bench", document(gguf, rows))
    else:
        _print(rows)


def spill_warnings(rows: list[Row]) -> list[str]:
    """Return a warning for every load that generates so slowly that the driver has likely moved its memory to RAM."""
    from toolkit.machine.gpus import gpu_bandwidths
    from toolkit.planning.token_speed import likely_spilled

    if not gpu_bandwidths():
        return []
    found = []
    for row in rows:
        measured, predicted = row.rate.generation_tokens_per_second, row.load.plan.choice.tokens_per_second
        on_gpu = row.load.plan.settings.n_gpu_layers and not row.load.plan.settings.rpc
        if measured is not None and on_gpu and likely_spilled(measured, predicted):
            found.append(
                f"{measured:.1f} tokens/s where the GPU's bandwidth allows {predicted:.1f}: the driver has likely spilled its "
                "memory into RAM; close other programs, or leave more free with --margin"
            )
    return found


def _tests(options: dict[str, Any]) -> "list[RateSettings]":
    from toolkit.measures.token_rate import RateSettings

    pairs = list(zip_longest(options["prompts"], options["generate"], fillvalue=0))
    return [
        RateSettings(n_prompt, n_generate, options["repetitions"], n_depth=depth)
        for depth in options["depths"]
        for n_prompt, n_generate in pairs
    ]


def _loads(options: dict[str, Any]) -> list[LoadOptions]:
    layers, threads, where = options["layers"] or (None,), options["threads"] or (None,), places(options)
    every = product(layers, options["kv"], threads)
    return [LoadOptions(*values, places=where, quiet=True) for values in every]


def _total(options: dict[str, Any]) -> int:
    return len(_loads(options)) * len(_tests(options))


def _measure(gguf: Path, options: dict[str, Any]) -> Iterator[Row]:
    from toolkit.measures.token_rate import measure_rates

    tests = _tests(options)
    n_ctx = max(max(test.n_prompt, test.n_generate) + test.n_depth for test in tests)
    for one_load in _loads(options):
        started = time.perf_counter()
        with opened(gguf, one_load, max(1, n_ctx)) as one:
            load = Load(one_load, time.perf_counter() - started, one.plan, devices_document(one))
            for test in tests:
                yield Row(load, test, measure_rates(one.runtime, test))


def document(gguf: Path, rows: list[Row]) -> dict[str, Any]:
    """Return the JSON document; the first row's rates stand at its top as well."""
    from dataclasses import asdict

    from toolkit.llama.native import thread_waiting

    results = [_row_document(row) for row in rows]
    return {"model": str(gguf), **asdict(rows[0].rate), "thread_waiting": thread_waiting(), "results": results}


def _row_document(row: Row) -> dict[str, Any]:
    from dataclasses import asdict

    settings = row.load.plan.settings
    return {
        "n_prompt": row.settings.n_prompt,
        "n_generate": row.settings.n_generate,
        "n_depth": row.settings.n_depth,
        "repetitions": row.settings.repetitions,
        "n_gpu_layers": settings.n_gpu_layers,
        "kv_type_k": settings.kv_type_k,
        "kv_type_v": settings.kv_type_v,
        "threads": row.load.options.threads,
        **asdict(row.rate),
        "load_seconds": row.load.seconds,
        "devices": row.load.devices,
    }


def _print(rows: list[Row]) -> None:
    from toolkit.cli.tables import print_table
    from toolkit.llama.native import thread_waiting

    cells = [
        (
            f"{row.load.plan.settings.n_gpu_layers}/{row.load.plan.choice.n_layers}",
            row.load.options.kv,
            "" if row.load.options.threads is None else str(row.load.options.threads),
            str(row.settings.n_depth),
            _rate(row.settings.n_prompt, row.rate.prompt_tokens_per_second, row.rate.prompt_tokens_per_second_stddev),
            _rate(
                row.settings.n_generate,
                row.rate.generation_tokens_per_second,
                row.rate.generation_tokens_per_second_stddev,
            ),
        )
        for row in rows
    ]
    header = ("layers", "KV", "threads", "depth", "prompt tokens/s", "generated tokens/s")
    print_table(header, cells, right=(0, 2, 3, 4, 5))
    echo()
    loads = {id(row.load): row.load for row in rows}.values()
    for load in loads:
        _print_load(load, several=len(loads) > 1)
    echo(_WAITING_WORDS[thread_waiting()])


def _rate(count: int, mean: float | None, deviation: float | None) -> str:
    return "" if mean is None or deviation is None else f"{count}: {mean:.2f} ± {deviation:.2f}"


def _print_load(load: Load, *, several: bool) -> None:
    from toolkit.units import format_duration, format_size

    name = f"{load.options.kv} KV, layers {load.plan.settings.n_gpu_layers}: " if several else ""
    for device in load.devices:
        echo(
            f"{name}{device['name']} holds {format_size(device['allocated_bytes'])}: weights "
            f"{format_size(device['weights_bytes'])}, KV cache {format_size(device['kv_cache_bytes'])}, "
            f"compute {format_size(device['compute_bytes'])}; {as_predicted(device['predicted_bytes'], device['allocated_bytes'])}"
        )
    echo(f"{name}loaded in {format_duration(load.seconds)}")
