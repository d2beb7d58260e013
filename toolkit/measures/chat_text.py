"""A text as conversations in a model's own chat format: what a chat model reads in use, for measuring it on that.

Paragraphs (what blank lines part) are taken as turns: the user says the first, the assistant the second, and so on. After
TURNS of them another conversation begins, as long ones do not occur in use. Every conversation is rendered by the chat
template that the model carries, and one follows the other. A last paragraph that nobody answers is left out.
"""

import re
from collections.abc import Iterator

from toolkit.errors import TextError
from toolkit.gguf.format import Metadata
from toolkit.measures.chat_rendering import Conversation, TemplateRefusalError, TemplateRenderer
from toolkit.measures.evaluation_text import EvaluationText, with_hash
from toolkit.tokenizer.chat_template import default_template, special_texts

TURNS = 6
_ROLES = ("user", "assistant")
_BLANK_LINES = re.compile(r"\n\s*\n")


def as_chat(text: EvaluationText, metadata: Metadata, model: str) -> EvaluationText:
    """Return a text as conversations in the format of the model with this metadata.

    Raises TextError if the model has no template, its template refuses, or there are not two paragraphs.
    """
    template = default_template(metadata)
    if template is None:
        raise TextError(f"{model} has no chat template, so --as-chat has no format to write in; leave it out")
    special = special_texts(metadata)
    try:
        with TemplateRenderer() as renderer:
            parts = [renderer.render(template, each, special) for each in conversations(text.text)]
    except TemplateRefusalError as refusal:
        raise TextError(f"the chat template of {model} does not take paragraphs as turns: {refusal}") from refusal
    if not parts:
        raise TextError(f"{text.name} has no two paragraphs (parted by blank lines) to make a conversation of")
    return with_hash(f"{text.name} as chat", "".join(parts), is_chat=True)


def conversations(text: str) -> Iterator[Conversation]:
    """Yield the conversations that paragraphs make."""
    paragraphs = [part.strip() for part in _BLANK_LINES.split(text) if part.strip()]
    answered = len(paragraphs) // 2 * 2
    for start in range(0, answered, TURNS):
        turns = enumerate(paragraphs[start : min(start + TURNS, answered)])
        messages = tuple({"role": _ROLES[index % 2], "content": paragraph} for index, paragraph in turns)
        yield Conversation(f"paragraph {start + 1}", messages, add_generation_prompt=False)
