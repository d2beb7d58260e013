"""`run`: the answer of a model to a prompt."""

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit.cli.chat_templates import given_metadata, renders_chat_template
from toolkit.cli.common import COUNT, emit_json, json_option, note
from toolkit.cli.files import INPUT
from toolkit.cli.loading import Opened, devices_document, load_options, loading_options, opened
from toolkit.cli.output import echo, echo_answer
from toolkit.cli.places import warn_of_unused_gpu
from toolkit.errors import InputError

if TYPE_CHECKING:
    from toolkit.gguf.format import Metadata
    from toolkit.measures.chat_rendering import TemplateRenderer
    from toolkit.measures.generation import Generation, GenerationStats

DEFAULT_CONTEXT = 4096

EXAMPLE = """
\b
Examples:
  gguf-toolkit run model.gguf -p "Why is the sky blue?"
  gguf-toolkit run model.gguf --raw -p "Once upon a time" -n 64 --temperature 0.8
  gguf-toolkit run model.gguf --vram 6GiB --kv q8_0 --ctx 8k -p - < question.txt
"""


@click.command(epilog=EXAMPLE)
@click.argument("gguf", type=INPUT)
@click.option("-p", "--prompt", required=True, help="What to answer, or to go on with; `-` reads it from stdin.")
@click.option("--system", help="System message, for models whose chat template takes one.")
@renders_chat_template
@click.option("--raw", is_flag=True, help="Go on with the prompt as it is, without the chat template.")
@click.option("-n", "n_tokens", type=click.IntRange(min=1), default=256, show_default=True, help="Tokens at most.")
@click.option("--temperature", type=click.FloatRange(min=0), default=0.0, show_default=True, help="0: the likeliest.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of chance, above temperature 0."
)
@click.option("--ctx", "n_ctx", type=COUNT, help="Context length; default: the trained one, at most 4k.")
@loading_options
@json_option
def command(gguf: Path, **options: Any) -> None:
    """Load a GGUF file with the split that fits what is free, and let it answer a prompt.

    The text goes to stdout as it comes; what was allocated, and how fast it went, to stderr.
    """
    from toolkit.gguf.reader import read_gguf

    for name in ("system", "chat_template"):
        if options["raw"] and options[name]:
            option = name.replace("_", "-")
            raise click.UsageError(f"--{option} is a part of the chat format, which --raw leaves out")
    warn_of_unused_gpu()
    prompt = _given_prompt(options["prompt"])
    with nullcontext() if options["raw"] else _renderer() as renderer:
        metadata = given_metadata(read_gguf(gguf).metadata, options["chat_template"])
        text, is_rendered = _text(gguf, metadata, prompt, options["system"], renderer)
    with opened(gguf, load_options(options), options["n_ctx"] or _default_context(metadata)) as one:
        generation = _generation(one, text, options, is_rendered=is_rendered)
        pieces = []
        for piece in generation:
            pieces.append(piece)
            if not options["as_json"]:
                echo_answer(piece)
        assert generation.stats is not None
        if options["as_json"]:
            answer = {"model": str(gguf), "text": "".join(pieces)}
            emit_json("run", answer | document(generation.stats) | {"devices": devices_document(one)})
            return
    echo()
    note(_words(generation.stats))


def document(stats: "GenerationStats") -> dict[str, Any]:
    """Return the part of a document that says what a generation took."""
    return {
        "ended_by": stats.ended_by,
        "prompt_tokens": stats.prompt_tokens,
        "generated_tokens": stats.generated_tokens,
        "prompt_tokens_per_second": stats.prompt_tokens_per_second,
        "generation_tokens_per_second": stats.generation_tokens_per_second,
    }


def _default_context(metadata: "Metadata") -> int:
    from toolkit.gguf.format import ModelKeys

    return min(DEFAULT_CONTEXT, ModelKeys(metadata).count("context_length") or DEFAULT_CONTEXT)


def _given_prompt(given: str) -> str:
    """Return the prompt, read from stdin where it is `-`."""
    try:
        prompt = sys.stdin.read() if given == "-" else given
        prompt.encode()
    except UnicodeError as error:
        raise InputError("the prompt is not text in UTF-8") from error
    if not prompt:
        raise InputError("the prompt is empty")
    return prompt


def _renderer() -> "TemplateRenderer":
    from toolkit.measures.chat_rendering import TemplateRenderer

    return TemplateRenderer()


def _text(
    gguf: Path, metadata: "Metadata", prompt: str, system: str | None, renderer: "TemplateRenderer | None"
) -> tuple[str, bool]:
    """Return what the model goes on with, and whether its chat template wrote it; without a renderer none does."""
    from toolkit.measures.generation import chat_prompt
    from toolkit.tokenizer.chat_template import default_template, special_texts

    if renderer is None:
        return prompt, False
    template = default_template(metadata)
    if template is None:
        if system:
            raise InputError(f"{gguf.name} has no chat template, so it takes no --system message")
        note("there is no chat template in the file: the prompt is continued as it is")
        return prompt, False
    first = [{"role": "system", "content": system}] if system else []
    messages = [*first, {"role": "user", "content": prompt}]
    return chat_prompt(renderer, template, messages, special_texts(metadata)), True


def _generation(one: Opened, text: str, options: dict[str, Any], *, is_rendered: bool) -> "Generation":
    from toolkit.measures.generation import Generation, Sampling

    runtime = one.runtime
    tokens = runtime.tokenize_rendered(text) if is_rendered else runtime.tokenize(text, parse_special=True)
    return Generation(runtime, tokens, Sampling(options["n_tokens"], options["temperature"], options["seed"]))


def _words(stats: "GenerationStats") -> str:
    rate = stats.generation_tokens_per_second
    ends = {"model": "", "length": "; stopped by -n", "context": "; the context is full"}
    return (
        f"prompt {stats.prompt_tokens:,} tokens at {stats.prompt_tokens_per_second:.1f} tokens/s, generated "
        f"{stats.generated_tokens:,}{f' at {rate:.1f} tokens/s' if rate is not None else ''}{ends[stats.ended_by]}"
    )
