"""The commands `imatrix`, `imatrix show` and `imatrix merge`."""

from pathlib import Path
from typing import Any

import click

from toolkit.cli.common import SIZE, emit_json, json_option, show
from toolkit.cli.files import INPUT, OUTPUT
from toolkit.cli.options import TEXT_OPTIONS, force_option, with_options
from toolkit.cli.reporter import CONSOLE, console

COLLECT = "collect"

EXAMPLE = """
\b
Examples:
  gguf-toolkit imatrix model-bf16.gguf --text calibration.txt -o model.imatrix.gguf
  gguf-toolkit imatrix show model.imatrix.gguf
  gguf-toolkit imatrix merge a.gguf b.gguf -o both.gguf
  gguf-toolkit quantize model-bf16.gguf --profile iq2_xs --imatrix model.imatrix.gguf
"""


class _CollectByDefault(click.Group):
    """A group whose first argument may be a file instead of a command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the default command before arguments that do not begin with a command."""
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = [COLLECT, *args]
        return super().parse_args(ctx, args)


@click.group(name="imatrix", cls=_CollectByDefault, epilog=EXAMPLE)
def command() -> None:
    """Collect an importance matrix of a GGUF file, show one, or merge several.

    `imatrix GGUF -o OUT` is short for `imatrix collect GGUF -o OUT`.
    """


@command.command(name=COLLECT, short_help="Collect an importance matrix, or second moments, from a text.")
@click.argument("gguf", type=INPUT)
@click.option("--output", "-o", type=OUTPUT, required=True, help="File to write, in GGUF format.")
@click.option("--process-output", is_flag=True, help="Collect for output.weight as well.")
@click.option("--moments", is_flag=True, help="Collect second moments, which `convert --rounding calibrated` takes.")
@click.option(
    "--moments-memory",
    type=SIZE,
    default="2GiB",
    show_default=True,
    help="Memory for the sums of --moments; where they take more, the text is read several times.",
)
@click.option("--parse-special", is_flag=True, help="Read special tokens written in the text as special tokens.")
@force_option
@with_options(*TEXT_OPTIONS)
def collect(gguf: Path, output: Path, as_json: bool, **options: Any) -> None:
    """Run a text through a model, and sum up the squares of what each column of its weights is multiplied with.

    The file is the one that llama-imatrix writes. Calibrate on text of the kind that the model is for; --text demo is for
    trying out.
    """
    from toolkit.verbs.imatrix import ImatrixRequest, imatrix

    _show_written(imatrix(ImatrixRequest(gguf, output, **options), console(as_json=as_json)), as_json=as_json)


@command.command(name="show", short_help="Show what an importance matrix covers.")
@click.argument("file", type=INPUT)
@click.option("--model", type=INPUT, help="GGUF file: say which of its tensors are covered.")
@json_option
def show_contents(file: Path, model: Path | None, as_json: bool) -> None:
    """Show what an importance matrix covers: tensors, tokens, experts never seen, and the layers that matter most."""
    from toolkit.render.imatrix import contents_document, contents_lines
    from toolkit.verbs.imatrix import show_imatrix

    contents = show_imatrix(file, model, CONSOLE)
    show("imatrix-show", contents_document(contents) if as_json else contents_lines(contents))


@command.command(short_help="Add up importance matrices of one model.")
@click.argument("files", nargs=-1, required=True, type=INPUT)
@click.option("--output", "-o", type=OUTPUT, required=True, help="File to write, in GGUF format.")
@force_option
@json_option
def merge(files: tuple[Path, ...], output: Path, force: bool, as_json: bool) -> None:
    """Add up importance matrices of one model, as if their texts had been one; both formats are read.

    Files of second moments (`imatrix --moments`) are merged likewise.
    """
    from toolkit.verbs.imatrix import merge_imatrices

    _show_written(merge_imatrices(files, output, CONSOLE, force=force), as_json=as_json)


def _show_written(result: Any, *, as_json: bool) -> None:
    from toolkit.render.imatrix import imatrix_document, written_line

    if as_json:
        emit_json("imatrix" if result.sums is not None else "imatrix-moments", imatrix_document(result))
    else:
        CONSOLE.note(written_line(result))
