"""The commands `architectures` and `architectures show`."""

import click

from toolkit.cli.common import json_option, show
from toolkit.cli.reporter import CONSOLE

EXAMPLE = """
\b
Examples:
  gguf-toolkit architectures
  gguf-toolkit architectures gemma
  gguf-toolkit architectures --refused
  gguf-toolkit architectures --json
  gguf-toolkit architectures show orion
"""


class _ListsByDefault(click.Group):
    """A group that lists where no subcommand is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse arguments, with `list` before those that begin with neither a subcommand nor a request for help."""
        named = bool(args) and args[0] in (*self.commands, *ctx.help_option_names)
        return super().parse_args(ctx, args if named else ["list", *args])


@click.group(cls=_ListsByDefault, name="architectures", epilog=EXAMPLE)
def command() -> None:
    """List the architectures that convert, or show how one of them does.

    `architectures`, `architectures TEXT` and `architectures --refused` are short for `architectures list ...`.
    """


@command.command(name="list")
@click.argument("text", required=False)
@click.option("--refused", is_flag=True, help="List the classes that are refused, each with the reason.")
@json_option
def list_(text: str | None, refused: bool, as_json: bool) -> None:
    """List the architectures that convert: class and model type of config.json, and what llama.cpp calls them.

    Status "compared": every key and tensor of a checkpoint equals what llama.cpp's own converter makes of it; "alike": the
    rules are those of a class that was compared. With TEXT, only those whose family, class, model type or name contains it.
    """
    from toolkit.render.architectures import architectures_document, architectures_lines, refused_lines
    from toolkit.verbs.list_architectures import ListArchitecturesRequest, list_architectures

    result = list_architectures(ListArchitecturesRequest(text), CONSOLE)
    if as_json:
        show("architectures", architectures_document(result))
        return
    show("architectures", refused_lines(result) if refused else architectures_lines(result))
    if result.refused and not refused:
        CONSOLE.note(
            f"{len(result.refused)} more classes that llama.cpp's converter knows are refused; --refused lists them"
        )


@command.command(name="show")
@click.argument("name", metavar="NAME")
@json_option
def show_(name: str, as_json: bool) -> None:
    """Show how the tensors of a checkpoint become those of a GGUF file, and what the config may leave out.

    NAME is a class or model_type of config.json, or the name in llama.cpp. N stands for the number of a block, E for that of
    an expert; embd, ff, q and kv are the widths of embeddings, feed-forward layers, queries, and keys and values.
    """
    from toolkit.render.architectures import architecture_document, architecture_lines
    from toolkit.verbs.show_architecture import ShowArchitectureRequest, show_architecture

    result = show_architecture(ShowArchitectureRequest(name), CONSOLE)
    show("architecture", architecture_document(result) if as_json else architecture_lines(result))
