"""The child process of `TemplateRenderer`: reads one JSON request a line on stdin, writes one JSON answer a line.

Request: {template, given, most_characters}. Answer: {text}, or {refused} with what the template said, or {exhausted} where
it asked for more memory than there is. jinja2's sandbox keeps a template from Python and from files, as transformers does
it; the limits that are set here keep it from the machine. Nothing heavy is imported: people wait for the first answer.

Source: `render_jinja_template` in src/transformers/utils/chat_template_utils.py of transformers.
"""

import json
import random
import signal
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

_TODAY = "26 Jul 2024"
"""Fixed, so that two renderings can be compared."""


class _RefusalError(Exception):
    """A template does not accept a conversation."""


def main() -> None:
    """Answer until stdin ends; the arguments are bytes of memory, and seconds of the processor for each answer."""
    memory_bytes, cpu_seconds = int(sys.argv[1]), float(sys.argv[2])
    environment = _environment()
    _limit_memory(memory_bytes)
    for line in sys.stdin:
        _limit_time(cpu_seconds)
        sys.stdout.write(json.dumps(_answer(environment, json.loads(line))) + "\n")
        sys.stdout.flush()


def _limit_memory(n_bytes: int) -> None:
    """Bound the address space, where the system knows such a limit and lets it be set."""
    with suppress(ImportError, AttributeError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (n_bytes, n_bytes))


def _limit_time(cpu_seconds: float) -> None:
    """Let the kernel end this process after so much more of its own time, in Python or in C, where there is such a timer."""
    with suppress(AttributeError):
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_PROF, cpu_seconds)


def _answer(environment: ImmutableSandboxedEnvironment, request: Mapping[str, Any]) -> dict[str, str]:
    # What a template draws by chance is the same in every rendering.
    random.seed(0)
    try:
        parts = environment.from_string(request["template"]).generate(**request["given"])
        text = _bounded(parts, request["most_characters"])
        text.encode()
    except MemoryError:
        return {"exhausted": ""}
    except UnicodeEncodeError:
        return {"refused": "it writes half of a surrogate pair, which is not a character"}
    except Exception as error:  # whatever jinja2, or Python's compiler, says of what strangers wrote
        return {"refused": _first_words(error)}
    return {"text": text}


def _first_words(error: Exception) -> str:
    try:
        return str(error)[:300] or type(error).__name__
    except Exception:  # its text is a template's, too
        return type(error).__name__


def _bounded(parts: Iterable[str], most_characters: int) -> str:
    written, length = [], 0
    for part in parts:
        written.append(part)
        length += len(part)
        if length > most_characters:
            raise _RefusalError(f"it writes more than {most_characters:,} characters")
    return "".join(written)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _GenerationTag]
    )
    environment.filters["tojson"] = _as_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda _format: _TODAY
    return environment


def _as_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    """Return JSON without the escapes that jinja2's own filter makes for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)


def _refuse(message: str) -> None:
    raise _RefusalError(message)


class _GenerationTag(Extension):
    """`{% generation %}`, which marks what the model wrote and changes nothing of the text."""

    tags = {"generation"}  # noqa: RUF012 - the base class declares it

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        """Return what stands between the two tags."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


if __name__ == "__main__":
    main()
