"""Render chat templates as transformers does, in jinja2's sandbox: a template can neither reach Python nor write.

Source: `render_jinja_template` in src/transformers/utils/chat_template_utils.py of transformers.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

MOST_CHARACTERS = 1 << 20
"""A template that writes more than this never ends."""
_TODAY = "26 Jul 2024"
"""Fixed, so that two renderings can be compared."""


class TemplateRefusalError(Exception):
    """A template does not accept a conversation, or is no template; the message says what it said."""


@dataclass(frozen=True)
class Conversation:
    """What a template is given."""

    name: str
    messages: tuple[Mapping[str, Any], ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    add_generation_prompt: bool = True


def render(template: str, conversation: Conversation, special: Mapping[str, str]) -> str:
    """Return the text of a conversation; `special` are texts by name, as `bos_token`.

    Raises TemplateRefusalError.
    """
    from jinja2 import TemplateError

    given = {
        "messages": [dict(message) for message in conversation.messages],
        "tools": [dict(tool) for tool in conversation.tools] or None,
        "documents": None,
        "add_generation_prompt": conversation.add_generation_prompt,
        **special,
    }
    try:
        return _bounded(_environment().from_string(template).generate(**given))
    except (
        TemplateError,
        ArithmeticError,
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        RecursionError,
    ) as error:
        raise TemplateRefusalError(str(error) or type(error).__name__) from error


def _bounded(parts: Any) -> str:
    written, length = [], 0
    for part in parts:
        written.append(part)
        length += len(part)
        if length > MOST_CHARACTERS:
            raise TemplateRefusalError(f"it writes more than {MOST_CHARACTERS:,} characters")
    return "".join(written)


@cache
def _environment() -> "Environment":
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _generation_tag()]
    )
    environment.filters["tojson"] = _as_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda _format: _TODAY
    return environment


def _as_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    """Return JSON without the escapes that jinja2's own filter makes for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)


def _refuse(message: str) -> None:
    raise TemplateRefusalError(message)


def _generation_tag() -> type:
    """Return the extension for `{% generation %}`, which marks what the model wrote and changes nothing of the text."""
    from jinja2 import nodes
    from jinja2.ext import Extension
    from jinja2.parser import Parser

    class GenerationTag(Extension):
        tags = {"generation"}  # noqa: RUF012 - the base class declares it

        def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    return GenerationTag
