"""The command `verify`."""

from pathlib import Path
from typing import Any

import click

from toolkit.cli.chat_templates import chat_template_option
from toolkit.cli.common import json_option, show
from toolkit.cli.files import INPUT, SOURCE
from toolkit.cli.options import local_files_option, norms_option, pre_option
from toolkit.cli.reporter import CONSOLE
from toolkit.errors import FidelityError

EXAMPLE = """
\b
Examples:
  gguf-toolkit verify model-Q4_K_M.gguf --source ./model
  gguf-toolkit verify model-Q4_K_M.gguf --source model-BF16.gguf --full
"""


@click.command(epilog=EXAMPLE)
@click.argument("gguf", metavar="OUT.gguf", type=INPUT)
@click.option("--source", metavar="SRC", type=SOURCE, help="Directory, model on the hub, `demo`, or GGUF file.")
@click.option("--full", is_flag=True, help="Compare all rows of every tensor instead of a sample.")
@click.option(
    "--no-run", "run", flag_value=False, default=True, help="Do not load the whole model to look at its first logits."
)
@chat_template_option("that the file was given in place of its source's")
@pre_option
@norms_option
@local_files_option
@json_option
def command(gguf: Path, source: str | None, as_json: bool, **options: Any) -> None:
    """Check OUT.gguf against its source, whichever program made it, and print a line for each check.

    Compared are tensors, shapes and weights, the keys of the architecture, vocabulary, token ids of a sample in many scripts (through
    the source's own tokenizer library and through llama.cpp), special tokens, chat templates rendered from both, and the
    first logits. Exit code 1 if a check fails; UNKNOWN is one that could not be made.
    """
    from toolkit.render.verify import verify_document, verify_lines
    from toolkit.verbs.verify import VerifyRequest, verify

    if source is None:
        raise click.UsageError(
            "a file is checked against what it was made of: name that with --source SRC; to see what the file holds, use "
            f"gguf-toolkit inspect {gguf}"
        )
    result = verify(VerifyRequest(gguf, source=source, **options), CONSOLE)
    show("verify", verify_document(result) if as_json else verify_lines(result))
    if result.failed:
        names = ", ".join(check.name for check in result.failed)
        raise FidelityError(f"{gguf} does not match {result.source}: {names}")
