"""The command `schema`."""

import click

from toolkit.cli.common import echo_document
from toolkit.cli.output import echo

EXAMPLE = """
\b
Examples:
  gguf-toolkit schema
  gguf-toolkit schema plan
"""


@click.command(epilog=EXAMPLE)
@click.argument("document", required=False)
def command(document: str | None) -> None:
    """Print the JSON Schema of what a command prints with --json; without DOCUMENT, the names of all documents.

    Keys are added from one version to the next, never renamed and never removed.
    """
    from toolkit.render.documents import document_names, document_schema

    if document is None:
        for name in document_names():
            echo(name)
    else:
        echo_document(document_schema(document))
