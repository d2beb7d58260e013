"""Render chat templates in a child process: jinja2's sandbox bounds what a template may do, the process what it may take."""

import json
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from toolkit.machine.child_process import ChildProcess

_CHILD = "toolkit.measures.template_child"


class TemplateRefusalError(Exception):
    """A template does not accept a conversation, or is not a template; the message is the template's own, in one line."""


class TemplateLimitError(TemplateRefusalError):
    """Rendering broke a limit, so what the template would write is unknown."""


@dataclass(frozen=True)
class TemplateLimits:
    """What one rendering may take.

    A real template needs a few milliseconds and MiB. Where a system has no limits of processor time or memory, such as Windows,
    the clock alone ends a rendering.
    """

    cpu_seconds: float = 2.0
    clock_seconds: float = 20.0
    """on a busy machine it passes much faster than the processor's time"""
    memory_bytes: int = 512 << 20
    """of address space, the interpreter's own included"""
    characters: int = 1 << 20
    """written beyond three times what the conversation has"""


@dataclass(frozen=True)
class Conversation:
    """What a template is given."""

    name: str
    messages: tuple[Mapping[str, Any], ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    add_generation_prompt: bool = True


class TemplateRenderer:
    """A child process that renders templates until the `with` block ends; whatever breaks a limit ends it, and another starts."""

    def __init__(self, limits: TemplateLimits = TemplateLimits()) -> None:
        """Start the process, which gets ready meanwhile."""
        self._limits = limits
        self._child: ChildProcess | None = None
        self._start()

    def __enter__(self) -> "TemplateRenderer":
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def render(self, template: str, conversation: Conversation, special: Mapping[str, str]) -> str:
        """Return the text of a conversation; `special` are texts by name, as `bos_token`.

        Raises TemplateRefusalError, TemplateLimitError of these where a limit was broken.
        """
        answer = self._ask(json.dumps(self._request(template, conversation, special)))
        if "text" in answer:
            return str(answer["text"])
        if "refused" in answer:
            raise TemplateRefusalError(" ".join(str(answer["refused"]).split()) or "it gives no reason")
        self._end()
        raise TemplateLimitError(f"rendering it takes more than {self._limits.memory_bytes >> 20} MiB of memory")

    def _request(self, template: str, conversation: Conversation, special: Mapping[str, str]) -> dict[str, Any]:
        given = {
            "messages": [dict(message) for message in conversation.messages],
            "tools": [dict(tool) for tool in conversation.tools] or None,
            "documents": None,
            "add_generation_prompt": conversation.add_generation_prompt,
            **special,
        }
        characters = self._limits.characters + 3 * len(json.dumps(given, ensure_ascii=False))
        return {"template": template, "given": given, "most_characters": characters}

    def _ask(self, request: str) -> dict[str, str]:
        child = self._start()
        line = child.ask(request, self._limits.clock_seconds)
        if line is not None:
            answer: dict[str, str] = json.loads(line)
            return answer
        why = self._why_there_is_none(child)
        self._end()
        raise TemplateLimitError(why)

    def _why_there_is_none(self, child: ChildProcess) -> str:
        code = child.exit_code()
        if code is None:
            return f"rendering it takes more than {self._limits.clock_seconds:g} s"
        if code == -getattr(signal, "SIGPROF", 0):
            return f"rendering it takes more than {self._limits.cpu_seconds:g} s of the processor's time"
        return f"the process that renders it {child.last_words(1.0)}"

    def _start(self) -> ChildProcess:
        if self._child is None:
            arguments = (str(self._limits.memory_bytes), str(self._limits.cpu_seconds))
            self._child = ChildProcess(_CHILD, arguments)
        return self._child

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.close()
