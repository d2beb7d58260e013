"""The option that has another chat template take the place of a model's own."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from toolkit.cli.common import Function
from toolkit.cli.files import INPUT

if TYPE_CHECKING:
    pass


def chat_template_option(purpose: str) -> Callable[[Function], Function]:
    """Return `--chat-template FILE`."""
    option: Callable[[Any], Any] = click.option(
        "--chat-template", type=INPUT, metavar="FILE", help=f"Chat template (Jinja) {purpose}."
    )
    return option


writes_chat_template = chat_template_option("to write into the file in place of the model's own")
renders_chat_template = chat_template_option("to use in place of the model's own")
