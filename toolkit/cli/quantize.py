"""The command `quantize`."""

from pathlib import Path
from typing import Any

import click

from toolkit.cli.conversion import CONVERSION_OPTIONS, show_conversion
from toolkit.cli.files import INPUT, OUTPUT
from toolkit.cli.options import with_options
from toolkit.cli.reporter import CONSOLE

EXAMPLE = """
\b
Example:
  gguf-toolkit quantize model-BF16.gguf model-Q4_K_M.gguf --profile q4_k_m
"""


@click.command(epilog=EXAMPLE)
@click.argument("source", metavar="IN.gguf", type=INPUT)
@click.argument("output", metavar="[OUT.gguf]", required=False, type=OUTPUT)
@click.option("--allow-requantize", is_flag=True, help="Accept a file that is at 4 bits or less already.")
@with_options(*CONVERSION_OPTIONS)
def command(source: Path, output: Path | None, verbose: bool, as_json: bool, **options: Any) -> None:
    """Requantize IN.gguf (one file, or any of llama.cpp's split files) to OUT.gguf."""
    from toolkit.verbs.quantize import QuantizeRequest, quantize

    show_conversion(quantize(QuantizeRequest(source, output, **options), CONSOLE), verbose=verbose, as_json=as_json)
