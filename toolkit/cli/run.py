"""The command `run`."""

import sys
from pathlib import Path
from typing import Any

import click

from toolkit.cli.chat_templates import renders_chat_template
from toolkit.cli.common import COUNT, emit_json, json_option
from toolkit.cli.files import INPUT
from toolkit.cli.options import LOAD_OPTIONS, with_options
from toolkit.cli.output import echo, echo_answer
from toolkit.cli.reporter import CONSOLE, console
from toolkit.errors import InputError

EXAMPLE = """
\b
Examples:
  gguf-toolkit run model.gguf -p "Why is the sky blue?"
  gguf-toolkit run model.gguf --raw -p "Once upon a time" -n 64 --temperature 0.8
  gguf-toolkit run model.gguf --vram 6GiB --kv q8_0 --ctx 8k -p - < question.txt
"""


@click.command(epilog=EXAMPLE)
@click.argument("gguf", type=INPUT)
@click.option("-p", "--prompt", required=True, help="What to answer or to continue; `-` reads it from stdin.")
@click.option("--system", help="System message, for models whose chat template takes one.")
@renders_chat_template
@click.option("--raw", is_flag=True, help="Continue the prompt as it is, without the chat template.")
@click.option("-n", "n_tokens", type=click.IntRange(min=1), default=256, show_default=True, help="Tokens at most.")
@click.option(
    "--temperature",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="Sampling temperature; 0 takes the most likely token.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Random seed, for temperatures above 0.",
)
@click.option("--ctx", "n_ctx_seq", type=COUNT, help="Context length; default: the trained one, at most 4k.")
@with_options(*LOAD_OPTIONS)
@json_option
def command(gguf: Path, prompt: str, as_json: bool, **options: Any) -> None:
    """Load a GGUF file with the split that fits what is free, and let it answer a prompt.

    The text goes to stdout as it comes; what was allocated, and how fast it went, to stderr.
    """
    from toolkit.render.run import rates_line, run_document
    from toolkit.verbs.run import RunRequest, run

    on_text = None if as_json else echo_answer
    request = RunRequest(gguf, _given_prompt(prompt), on_text=on_text, **options)
    result = run(request, console(as_json=as_json))
    if as_json:
        emit_json("run", run_document(result))
        return
    echo()
    CONSOLE.note(rates_line(result.stats))


def _given_prompt(given: str) -> str:
    """Return the prompt, read from stdin where it is `-`."""
    try:
        prompt = sys.stdin.read() if given == "-" else given
        prompt.encode()
    except UnicodeError as error:
        raise InputError("the prompt is not text in UTF-8") from error
    return prompt
