"""The command `inspect`."""

import click

from toolkit.cli.common import json_option, show
from toolkit.cli.files import SOURCE
from toolkit.cli.options import local_files_option
from toolkit.cli.reporter import CONSOLE

EXAMPLE = """
\b
Examples:
  gguf-toolkit inspect model-00002-of-00003.gguf
  gguf-toolkit inspect ./SmolLM2-135M-Instruct --tensors
  gguf-toolkit inspect model.gguf --json
  gguf-toolkit inspect HuggingFaceTB/SmolLM2-135M-Instruct
"""


@click.command(epilog=EXAMPLE)
@click.argument("source", metavar="FILE|DIRECTORY|MODEL", type=SOURCE)
@click.option("--tensors", is_flag=True, help="List every tensor.")
@local_files_option
@json_option
def command(source: str, tensors: bool, local_files_only: bool, as_json: bool) -> None:
    """Show what a GGUF file or a checkpoint holds, without reading its weights.

    Any part of a split model stands for the whole. A directory is a checkpoint if it has a config.json (or Mistral's
    params.json), else it holds one GGUF model. Of a model on the hub only config, vocabulary and the headers of shards
    are fetched. KV cache sizes are those of an f16 cache for one sequence.
    """
    from toolkit.render.inspect import inspect_document, inspect_lines
    from toolkit.verbs.inspect import InspectRequest, inspect

    result = inspect(InspectRequest(source, local_files_only=local_files_only), CONSOLE)
    show("inspect", inspect_document(result, tensors=tensors) if as_json else inspect_lines(result, tensors=tensors))
