"""The command `convert`."""

import sys
from pathlib import Path
from typing import Any

import click

from toolkit.cli.conversion import CONVERSION_OPTIONS, show_conversion
from toolkit.cli.files import INPUT_FILE, INPUT_NAME, OUTPUT, SOURCE
from toolkit.cli.options import Option, local_files_option, norms_option, pre_option, with_options
from toolkit.cli.reporter import CONSOLE

EXAMPLE = """
\b
Examples:
  gguf-toolkit convert ./SmolLM2-135M-Instruct --profile q4_k_m
  gguf-toolkit convert ./model out.gguf -p q5_k_m --tensor-type 'ffn_down=q6_k'
  gguf-toolkit convert ./model --dry-run
  gguf-toolkit convert ./model --metadata author=Me --metadata base_model=org/name
  gguf-toolkit convert HuggingFaceTB/SmolLM2-135M-Instruct@main
"""
CONVERTER_OPTIONS: tuple[Option[Any], ...] = (
    click.option(
        "--converter",
        type=INPUT_FILE,
        metavar="PATH",
        help="Checkout of llama.cpp whose own converter is run first, for architectures that are not supported here.",
    ),
    click.option(
        "--converter-python",
        type=INPUT_NAME,
        default=sys.executable,
        show_default="this one",
        help="Python interpreter for --converter, with torch and its other requirements.",
    ),
)


@click.command(epilog=EXAMPLE)
@click.argument("source", metavar="SRC", type=SOURCE)
@click.argument("output", metavar="[OUT]", required=False, type=OUTPUT)
@pre_option
@click.option("--model-name", metavar="NAME", help="Name of the model; default: that of its card, config or directory.")
@click.option(
    "--metadata",
    type=INPUT_NAME,
    multiple=True,
    metavar="KEY=VALUE|FILE",
    help="general.* key such as author, license, base_model, or a JSON file of them; repeatable.",
)
@click.option(
    "--dense-modules",
    "--sentence-transformers-dense-modules",
    is_flag=True,
    help="Include the layers after pooling of an embedder (EmbeddingGemma).",
)
@norms_option
@with_options(*CONVERTER_OPTIONS)
@local_files_option
@with_options(*CONVERSION_OPTIONS)
def command(source: str, output: Path | None, verbose: bool, as_json: bool, **options: Any) -> None:
    """Convert the checkpoint SRC to the GGUF file OUT in one pass.

    SRC is a directory, a model on the hub (org/name[@revision]), or `demo`. Without OUT, the file is named after the
    model, size and profile, in the current folder. No intermediate file is written, and no tensor is held whole in memory.
    """
    from toolkit.verbs.convert import ConvertRequest, convert

    show_conversion(convert(ConvertRequest(source, output, **options), CONSOLE), verbose=verbose, as_json=as_json)
