"""The option that has another chat template take the place of a model's own."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit.cli.common import Function
from toolkit.cli.files import INPUT
from toolkit.cli.reporter import CONSOLE

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
    from toolkit.verbs.chat_templates import metadata_with_template

    return metadata_with_template(metadata, file)


def given_template(source: "ModelSource", file: Path | None) -> "ModelSource":
    """Return a model with the template that was given, if one was, and say so."""
    from toolkit.verbs.chat_templates import use_chat_template

    return use_chat_template(source, file, CONSOLE)
