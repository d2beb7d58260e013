"""What every command shares: parameter types, and how results are printed."""

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from toolkit.cli.output import echo, echo_json
from toolkit.errors import InputError
from toolkit.units import parse_count, parse_size

Function = TypeVar("Function", bound=Callable[..., Any])


class _Parsed(click.ParamType):  # type: ignore[type-arg]  # older click is not generic
    def __init__(self, name: str, parse: Callable[[str], int]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse text, and leave alone what is parsed already."""
        if isinstance(value, int):
            return value
        try:
            return self._parse(value)
        except InputError as error:
            self.fail(str(error), param, ctx)


SIZE = _Parsed("size", parse_size)
COUNT = _Parsed("count", parse_count)


def json_option(function: Function) -> Function:
    """Add `--json`: one JSON document on stdout and nothing else there."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")(function)


def emit_json(name: str, content: dict[str, Any]) -> None:
    """Print a document with the keys that every document carries."""
    from toolkit.render.documents import whole_document

    echo_document(whole_document(name, content))


def echo_document(document: dict[str, Any]) -> None:
    """Print JSON, with escapes where stdout's encoding lacks a letter."""
    text = json.dumps(document, ensure_ascii=False, indent=2)
    echo_json(text if _stdout_can_say(text) else json.dumps(document, indent=2))


def _stdout_can_say(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def show(schema: str, content: dict[str, Any] | Sequence[str]) -> None:
    """Print a result: its document as JSON, or its lines as text."""
    if isinstance(content, dict):
        emit_json(schema, content)
        return
    for line in content:
        echo(line)
