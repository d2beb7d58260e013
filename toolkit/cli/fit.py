"""The command `fit`."""

from typing import Any

import click

from toolkit.cli.chat_templates import writes_chat_template
from toolkit.cli.common import COUNT, json_option, show
from toolkit.cli.convert import CONVERTER_OPTIONS
from toolkit.cli.files import INPUT_NAME, OUTPUT, SOURCE
from toolkit.cli.options import (
    BUDGET_OPTIONS,
    flash_attention_option,
    force_option,
    imatrix_option,
    kv_list_option,
    local_files_option,
    norms_option,
    pre_option,
    prefer_option,
    repetitions_option,
    text_option,
    threads_option,
    with_options,
)
from toolkit.cli.reporter import CONSOLE

EXAMPLE = """
\b
Examples:
  gguf-toolkit fit demo --vram 16MiB --ctx 512
  gguf-toolkit fit ./SmolLM2-135M-Instruct --vram 1GiB --ctx 8k --json
  gguf-toolkit fit ./model --vram 8GiB --ctx 16k --prefer quality --out models/
  gguf-toolkit fit ./model --vram 24GiB,12GiB --use code --text repository.txt
"""


@click.command(epilog=EXAMPLE)
@click.argument("source", metavar="SRC", type=SOURCE)
@with_options(*BUDGET_OPTIONS)
@click.option("--ctx", "n_ctx", type=COUNT, default="4k", show_default=True, help="Context length, e.g. 16k.")
@prefer_option
@click.option(
    "--profile", "-p", "profiles", type=INPUT_NAME, multiple=True, help="Only this profile; repeatable, best first."
)
@kv_list_option(otherwise="f16,q8_0")
@flash_attention_option
@imatrix_option
@writes_chat_template
@click.option(
    "--use", metavar="USE", help="What it is for (chat, code, ...): its thresholds decide, on --text of its kind."
)
@click.option(
    "--max-ppl-increase",
    type=click.FloatRange(min=0),
    default=3.0,
    show_default=True,
    help="Most that the perplexity may grow, %.",
)
@text_option
@click.option("--chunks", type=click.IntRange(min=1), default=20, show_default=True, help="Chunks to measure on.")
@repetitions_option(3)
@click.option(
    "--out",
    "--output",
    "-o",
    "output",
    type=OUTPUT,
    help="File, or folder for a file of the default name.",
)
@force_option
@pre_option
@norms_option
@threads_option
@with_options(*CONVERTER_OPTIONS)
@local_files_option
@json_option
def command(source: str, as_json: bool, **options: Any) -> None:
    """Make the best GGUF file of the checkpoint SRC that fits a VRAM budget, and prove it.

    SRC is a directory, a model on the hub (org/name[@revision]), or `demo`. Memory is asked of llama.cpp before anything
    is converted. The file is loaded, its perplexity is compared with the unquantized model's and its token rates are
    measured; if it lost too much, a heavier profile with fewer layers on the GPU takes its place. Without a GPU it plans
    for the budget all the same and measures on the CPU.
    """
    from toolkit.render.fit import fit_document, fit_lines
    from toolkit.verbs.fit import FitRequest, fit

    result = fit(FitRequest(source, **options), CONSOLE)
    show("fit", fit_document(result) if as_json else fit_lines(result))
