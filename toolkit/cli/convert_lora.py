"""The command `convert-lora`."""

from pathlib import Path
from typing import Any

import click

from toolkit.cli.common import json_option, show
from toolkit.cli.files import OUTPUT, SOURCE
from toolkit.cli.options import force_option, local_files_option
from toolkit.cli.reporter import CONSOLE

EXAMPLE = """
\b
Examples:
  gguf-toolkit convert-lora ./adapter --base ./SmolLM2-135M-Instruct
  gguf-toolkit convert-lora org/adapter adapter.gguf --type f16
"""


@click.command(epilog=EXAMPLE)
@click.argument("source", metavar="ADAPTER", type=SOURCE)
@click.argument("output", metavar="[OUT]", required=False, type=OUTPUT)
@click.option(
    "--base", metavar="SRC", type=SOURCE, help="Model that the adapter was trained on; default: the one that it names."
)
@click.option(
    "--type",
    "type_",
    type=click.Choice(["f32", "f16", "bf16"]),
    default="f32",
    show_default=True,
    help="Type of the matrices.",
)
@click.option(
    "--leave-out-whole-weights",
    is_flag=True,
    help="Leave out the whole weights (norms, a saved lm_head) that the adapter has beside its matrices.",
)
@force_option
@local_files_option
@json_option
def command(source: str, output: Path | None, as_json: bool, **options: Any) -> None:
    """Convert ADAPTER (of PEFT or MLX: a directory, or a repository on the hub) to a GGUF file for llama.cpp's --lora.

    Only the config of the base is needed (a directory, a config.json, or a model on the hub).
    """
    from toolkit.render.conversion import lora_document, lora_lines
    from toolkit.verbs.convert_lora import ConvertLoraRequest, convert_lora

    result = convert_lora(ConvertLoraRequest(source, output, **options), CONSOLE)
    show("convert-lora", lora_document(result) if as_json else lora_lines(result))
