"""What the measuring commands share: their options, the text they measure on, and what is said where logits are no numbers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit.cli.chat_templates import given_metadata, renders_chat_template
from toolkit.cli.common import COUNT, Function, emit_json, json_option
from toolkit.cli.files import INPUT_NAME
from toolkit.cli.loading import LOADING_OPTIONS, LoadOptions, load_options
from toolkit.cli.options import add_options
from toolkit.errors import QualityError

if TYPE_CHECKING:
    from toolkit.measures.evaluation_text import EvaluationText

text_option = click.option(
    "--text",
    type=INPUT_NAME,
    default="demo",
    show_default=True,
    help="Text file in UTF-8, `demo` (Python's manual), or `wikitext-2` (its test set, from the hub).",
)
_QUALITY_OPTIONS = (
    text_option,
    click.option("--as-chat", is_flag=True, help="Take paragraphs as turns, in the model's own chat format."),
    renders_chat_template,
    click.option("--ctx", "n_ctx", type=COUNT, default=512, show_default=True, help="Tokens of a window."),
    click.option("--chunks", type=click.IntRange(min=1), help="Windows to measure on; default: all of the text."),
    *LOADING_OPTIONS,
    json_option,
)


def quality_options(function: Function) -> Function:
    """Add the options of every command that measures on a text."""
    return add_options(function, _QUALITY_OPTIONS)


def windows_load(
    options: dict[str, Any], n_ctx: int, max_chunks: int | None, scored: range | None = None
) -> LoadOptions:
    """Return how to load a model for windows of n_ctx tokens, as many side by side as llama-perplexity takes.

    Logits are wanted at the positions `scored`, by default those of the second half.
    """
    from toolkit.measures.perplexity import windows_together

    return replace(
        load_options(options),
        n_parallel=windows_together(n_ctx, max_chunks),
        scored=scored if scored is not None else range(n_ctx // 2, n_ctx - 1),
    )


def measured_text(options: dict[str, Any], gguf: Path) -> "EvaluationText":
    """Return the text that the options ask for, in the chat format of a model if they do."""
    from toolkit.measures.evaluation_text import named_text

    text = named_text(options["text"])
    if not options["as_chat"]:
        if options["chat_template"]:
            raise click.UsageError("--chat-template is of use with --as-chat only")
        return text
    from toolkit.gguf.reader import read_gguf
    from toolkit.measures.chat_text import as_chat

    return as_chat(text, given_metadata(read_gguf(gguf).metadata, options["chat_template"]), gguf.name)


def text_document(text: "EvaluationText") -> dict[str, Any]:
    """Return what says whether two measurements may be compared."""
    return {"text": text.name, "text_sha256": text.sha256, "as_chat": text.is_chat}


@contextmanager
def explained(paths: Sequence[Path], schema: str, keys: Sequence[str], *, as_json: bool) -> Iterator[None]:
    """Where logits are not finite, name the weights that may be why, and give `--json` its document of nulls."""
    try:
        yield
    except QualityError as error:
        from toolkit.llama.bad_weights import find_bad_weights, suspicion

        suspects = [f"{path.name}: {name}" for path in paths for name in find_bad_weights(path)]
        message = f"{error}{suspicion(suspects)}"
        if as_json:
            emit_json(schema, dict.fromkeys(keys) | {"error": message, "suspected_tensors": suspects})
        raise QualityError(message) from error
