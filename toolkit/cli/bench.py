"""The command `bench`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from toolkit.cli.common import json_option, show
from toolkit.cli.files import INPUT
from toolkit.cli.options import PLACEMENT_OPTIONS, kv_list_option, repetitions_option, with_options
from toolkit.cli.reporter import CONSOLE

EXAMPLE = """
\b
Examples:
  gguf-toolkit bench model.gguf
  gguf-toolkit bench model.gguf -p 512,2048 -n 128 -d 0,4096 -r 5
  gguf-toolkit bench model.gguf -ngl 0,16,32 --kv f16,q8_0 --json
"""


def _numbers(least: int) -> Callable[[click.Context, click.Parameter, str | None], tuple[int, ...]]:
    def parse(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[int, ...]:
        parts = value.split(",") if value is not None else []
        if not all(part.strip().isdecimal() and int(part) >= least for part in parts):
            raise click.BadParameter(f"{value!r}: write numbers of at least {least}, separated by commas")
        return tuple(int(part) for part in parts)

    return parse


@click.command(epilog=EXAMPLE)
@click.argument("gguf", type=INPUT)
@click.option("-p", "n_prompt", default="512", show_default=True, callback=_numbers(0), help="Tokens of the prompt.")
@click.option("-n", "n_generate", default="128", show_default=True, callback=_numbers(0), help="Tokens to generate.")
@click.option("-d", "n_depth", default="0", show_default=True, callback=_numbers(0), help="Tokens that come before.")
@click.option("-ngl", "--n-gpu-layers", callback=_numbers(0), help="Layers on the GPU; default: what fits.")
@kv_list_option("f16")
@click.option("--threads", "-t", callback=_numbers(1), help="CPU threads; default: physical cores.")
@repetitions_option(5)
@with_options(*PLACEMENT_OPTIONS)
@json_option
def command(gguf: Path, as_json: bool, **options: Any) -> None:
    """Measure tokens per second: reading a prompt (-p) and generating (-n), each after -d tokens of context.

    Every option but -r takes several values, separated by commas. Rates are means of repetitions ± their sample standard
    deviation, after a warm-up, as llama-bench defines them. Threads wait passively where more of them want to run than there
    are cores, unless OMP_WAIT_POLICY says otherwise.
    """
    from toolkit.render.bench import bench_document, bench_lines
    from toolkit.verbs.bench import BenchRequest, bench

    result = bench(BenchRequest(gguf, **options), CONSOLE)
    show("bench", bench_document(result) if as_json else bench_lines(result))
