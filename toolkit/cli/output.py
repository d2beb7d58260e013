"""The one place that prints: what files brought along, and may steer a terminal, is written as escapes.

A line is a line: text of strangers in it cannot begin another. Only what a model answers, and texts that are made for
other programs, have line ends of their own.
"""

import io
import sys

import click

from toolkit.visible_text import visible, visible_json

_LAYOUT = "\n\t"


def echo(text: str = "") -> None:
    """Print a line on stdout."""
    click.echo(_encodable(visible(text)))


def tell(text: str) -> None:
    """Print a line on stderr."""
    click.echo(visible(text), err=True)


def echo_block(text: str) -> None:
    """Print a text of several lines on stdout."""
    click.echo(_encodable(visible(text, keep=_LAYOUT)))


def echo_json(text: str) -> None:
    """Print a JSON document on stdout."""
    click.echo(visible_json(text))


def echo_answer(piece: str) -> None:
    """Print a piece of what a model writes: on a terminal with its line ends and tabs, elsewhere as it is."""
    on_terminal = sys.stdout is not None and sys.stdout.isatty()
    # With colour, because without click leaves escapes out that a model wrote.
    click.echo(_encodable(visible(piece, keep=_LAYOUT) if on_terminal else piece), nl=False, color=True)


def show_usage_error(error: click.ClickException) -> None:
    """Print on stderr what click has to say of a command line, whose words may come from names of files."""
    words = io.StringIO()
    error.show(words)
    click.echo(visible(words.getvalue(), keep=_LAYOUT), err=True, nl=False)


def _encodable(text: str) -> str:
    """Return text with escapes for letters that stdout's encoding lacks."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
