"""The command `merge`."""

from pathlib import Path

import click

from toolkit.cli.common import json_option, show
from toolkit.cli.files import INPUT, OUTPUT
from toolkit.cli.options import force_option
from toolkit.cli.reporter import CONSOLE

EXAMPLE = """
\b
Example:
  gguf-toolkit merge model-00001-of-00003.gguf model.gguf
"""


@click.command(epilog=EXAMPLE)
@click.argument("source", metavar="PART.gguf", type=INPUT)
@click.argument("output", metavar="[OUT.gguf]", required=False, type=OUTPUT)
@force_option
@json_option
def command(source: Path, output: Path | None, force: bool, as_json: bool) -> None:
    """Join the files of a split model, of which PART.gguf is any, into the file that they were cut from; the parts stay.

    Without OUT.gguf, the file is named after the parts, in the current folder.
    """
    from toolkit.render.conversion import merge_document, merge_lines
    from toolkit.verbs.merge import MergeRequest, merge

    result = merge(MergeRequest(source, output, force=force), CONSOLE)
    show("merge", merge_document(result) if as_json else merge_lines(result))
