"""The option that has another chat template take the place of a model's own."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit.cli.common import Function, note
from toolkit.cli.files import INPUT

if TYPE_CHECKING:
    from toolkit.gguf.format import Metadata
    from toolkit.model_source import ModelSource


def chat_template_option(purpose: str) -> Callable[[Function], Function]:
    """Return `--chat-template FILE`."""
    option: Callable[[Any], Any] = click.option(
        "--chat-template", type=INPUT, metavar="FILE", help=f"Chat template (Jinja) {purpose}."
    )
    return option


writes_chat_template = chat_template_option("to write into the file in place of the model's own")
renders_chat_template = chat_template_option("to use in place of the model's own")


def given_metadata(metadata: "Metadata", file: Path | None) -> "Metadata":
    """Return the keys of a model, with the template that was given if one was."""
    from toolkit.tokenizer.chat_template import read_chat_template, with_chat_template

    return metadata if file is None else with_chat_template(metadata, read_chat_template(file))


def given_template(source: "ModelSource", file: Path | None) -> "ModelSource":
    """Return a model with the template that was given, if one was, and say so."""
    from toolkit.tokenizer.chat_template import default_template

    if file is None:
        return source
    had = "in place of the model's own" if default_template(source.metadata) else "where the model has none"
    note(f"the chat template is that of {file}, {had}")
    return replace(source, metadata=given_metadata(source.metadata, file))
