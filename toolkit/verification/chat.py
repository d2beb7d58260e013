"""Whether a file formats conversations as its source does."""

from dataclasses import dataclass

from toolkit.differences import first_difference
from toolkit.gguf.format import Metadata
from toolkit.gguf.reader import GgufFile
from toolkit.measures.chat_rendering import Conversation, TemplateLimitError, TemplateRefusalError, TemplateRenderer
from toolkit.model_source import ModelSource
from toolkit.tokenizer.chat_template import KEY, special_texts
from toolkit.verification.check import Check, judged, listed, unknown

NAME = "chat template"

_SYSTEM = {"role": "system", "content": "You are a careful assistant."}
_QUESTION = {"role": "user", "content": "What is the weather in Zürich?  Answer in two lines.\n"}
_ANSWER = {"role": "assistant", "content": "It rains.\nTake an umbrella. ☔"}
_TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Return the weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "Its name"}},
            "required": ["city"],
        },
    },
}
_CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {
            "id": "call00001",
            "type": "function",
            "function": {"name": "get_weather", "arguments": {"city": "Zürich"}},
        }
    ],
}
_RESULT = {"role": "tool", "name": "get_weather", "tool_call_id": "call00001", "content": '{"sky": "rain"}'}

CONVERSATIONS = (
    Conversation("one question", (_QUESTION,)),
    Conversation("a system prompt", (_SYSTEM, _QUESTION)),
    Conversation("several turns", (_SYSTEM, _QUESTION, _ANSWER, {"role": "user", "content": "And tomorrow?"})),
    Conversation("a finished answer", (_QUESTION, _ANSWER), add_generation_prompt=False),
    Conversation("tools offered", (_SYSTEM, _QUESTION), (_TOOL,)),
    Conversation("a tool called", (_QUESTION, _CALL, _RESULT), (_TOOL,)),
)
"""what chat templates are tried on"""


def check_chat_templates(source: ModelSource, file: GgufFile) -> Check:
    """Return the check `chat template`: every template of the source, rendered from both."""
    expected, found = templates(source.metadata), templates(file.metadata)
    if not expected:
        if found:
            return unknown(NAME, "that of the source", "the source has none, the file has one")
        return judged(NAME, True, "none", "none")
    expected_text = f"{len(CONVERSATIONS) * len(expected)} renderings of the source's"
    try:
        with TemplateRenderer() as renderer:
            return _compare(renderer, _Side(expected, source.metadata), _Side(found, file.metadata), expected_text)
    except _SourceLimitError as limit:
        return unknown(NAME, expected_text, f"of the source's template: {limit}")
    except TemplateLimitError as limit:
        return judged(NAME, False, expected_text, "no rendering", f"of the file's template: {limit}")


class _SourceLimitError(Exception):
    """The template of a source exceeds the limits of time or memory."""


@dataclass(frozen=True)
class _Side:
    """The templates of a source or of a file, and the metadata with their special tokens."""

    templates: dict[str, str]
    metadata: Metadata

    def rendered(self, renderer: TemplateRenderer, key: str, conversation: Conversation) -> tuple[str, bool]:
        """Return the text, or the refusal, and which of the two it is."""
        try:
            return renderer.render(self.templates[key], conversation, special_texts(self.metadata)), True
        except TemplateLimitError:
            raise
        except TemplateRefusalError as refusal:
            return f"(refused: {refusal})", False


def _compare(renderer: TemplateRenderer, source: _Side, file: _Side, expected_text: str) -> Check:
    faults, accepted = [], 0
    for key in source.templates:
        if key not in file.templates:
            faults.append(f"{key} is missing")
            continue
        for conversation in CONVERSATIONS:
            expected, takes = _of_source(renderer, source, key, conversation)
            found, _ = file.rendered(renderer, key, conversation)
            accepted += takes
            if expected != found:
                faults.append(f"{conversation.name}: {_first_difference_text(expected, found)}")
    tried = len(CONVERSATIONS) * len(source.templates)
    evidence = [listed(faults, 2)] if faults else []
    evidence.append(
        f"{accepted} of {tried} renderings accepted by the source's template, the others refused by both alike"
    )
    observed = f"{len(faults)} of {tried} renderings differ" if faults else "equal"
    return judged(NAME, not faults, expected_text, observed, "; ".join(evidence))


def _of_source(renderer: TemplateRenderer, source: _Side, key: str, conversation: Conversation) -> tuple[str, bool]:
    try:
        return source.rendered(renderer, key, conversation)
    except TemplateLimitError as limit:
        raise _SourceLimitError(str(limit)) from limit


def templates(metadata: Metadata) -> dict[str, str]:
    """Return the templates of a file by key."""
    return {
        key: value.value
        for key, value in metadata.items()
        if (key == KEY or key.startswith(f"{KEY}.")) and isinstance(value.value, str)
    }


def _first_difference_text(expected: str, found: str) -> str:
    at = first_difference(expected, found) or 0
    return f"{found[at : at + 30]!r} instead of {expected[at : at + 30]!r} at character {at}"
