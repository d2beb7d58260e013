"""`convert`: a Hugging Face checkpoint to GGUF, in one pass."""

from pathlib import Path
from typing import Any

import click

from toolkit.cli.conversion import ConversionRequest, conversion_options, run_conversion
from toolkit.cli.files import INPUT_NAME, OUTPUT, SOURCE
from toolkit.cli.foreign import converter_options, source_from_converter
from toolkit.cli.options import local_files_option, norms_option, pre_option
from toolkit.cli.source import resolve_preview, resolve_source

EXAMPLE = """
\b
Examples:
  gguf-toolkit convert ./SmolLM2-135M-Instruct --profile q4_k_m
  gguf-toolkit convert ./model out.gguf -p q5_k_m --tensor-type 'ffn_down=q6_k'
  gguf-toolkit convert ./model --dry-run
  gguf-toolkit convert ./model --metadata author=Me --metadata base_model=org/name
  gguf-toolkit convert HuggingFaceTB/SmolLM2-135M-Instruct@main
"""


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
    help="Of an embedder, include the layers after pooling (EmbeddingGemma).",
)
@norms_option
@converter_options
@local_files_option
@conversion_options
def command(
    source: str,
    output: Path | None,
    pre: str | None,
    model_name: str | None,
    metadata: tuple[str, ...],
    dense_modules: bool,
    norms: str,
    local_files_only: bool,
    converter: Path | None,
    converter_python: str,
    **options: Any,
) -> None:
    """Convert the checkpoint SRC to the GGUF file OUT in one pass.

    SRC is a directory, a model on the hub (org/name[@revision]), or `demo`. Without OUT the file is called after the
    model, size and profile, in the current folder. No intermediate file is written, and no tensor is ever held whole in
    memory.
    """
    from toolkit.sources.hf_source import source_from_checkpoint
    from toolkit.sources.metadata_overrides import parse_overrides

    overrides = parse_overrides(metadata, model_name)
    if converter is not None:
        _refuse_beside_converter(pre, model_name, metadata, dry_run=options["dry_run"])
    resolve = resolve_preview if options["dry_run"] else resolve_source
    directory = resolve(source, local_files_only=local_files_only)
    if converter is None:
        model = source_from_checkpoint(directory, pre, overrides=overrides, dense_modules=dense_modules, norms=norms)
    else:
        model = source_from_converter(directory, output, converter, converter_python)
    run_conversion(model, output, ConversionRequest(**options))


def _refuse_beside_converter(
    pre: str | None, model_name: str | None, metadata: tuple[str, ...], *, dry_run: bool
) -> None:
    """Refuse what would be ignored: the converter decides on vocabulary and names, and it does not run dry."""
    from toolkit.errors import InputError

    given = {"--pre": pre, "--model-name": model_name, "--metadata": metadata, "--dry-run": dry_run}
    first = next((option for option, value in given.items() if value), None)
    if first is not None:
        raise InputError(f"{first} does not go with --converter")
