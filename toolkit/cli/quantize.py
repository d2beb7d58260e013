"""`quantize`: a GGUF file to another mixture of types, through the same pipeline as `convert`."""

from pathlib import Path
from typing import Any

import click

from toolkit.cli.conversion import ConversionRequest, conversion_options, run_conversion
from toolkit.cli.files import INPUT, OUTPUT

EXAMPLE = """
\b
Example:
  gguf-toolkit quantize model-BF16.gguf model-Q4_K_M.gguf --profile q4_k_m
"""


@click.command(epilog=EXAMPLE)
@click.argument("source", metavar="IN.gguf", type=INPUT)
@click.argument("output", metavar="[OUT.gguf]", required=False, type=OUTPUT)
@click.option("--allow-requantize", is_flag=True, help="Accept a file that is at 4 bits or less already.")
@conversion_options
def command(source: Path, output: Path | None, allow_requantize: bool, **options: Any) -> None:
    """Requantize IN.gguf (one file, or any of llama.cpp's split files) to OUT.gguf."""
    from toolkit.sources.gguf_source import source_from_gguf

    model = source_from_gguf(source, allow_requantize=allow_requantize)
    run_conversion(model, output, ConversionRequest(**options))
