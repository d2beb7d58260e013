"""Whether a file formats conversations as its source does."""

from toolkit.differences import first_difference
from toolkit.gguf.format import Metadata
from toolkit.gguf.reader import GgufFile
from toolkit.measures.chat_rendering import Conversation, TemplateRefusalError, render
from toolkit.model_source import ModelSource
from toolkit.tokenizer.chat_template import KEY, special_texts
from toolkit.verify.check import Check, judged, listed, unknown
from toolkit.verify.conversations import CONVERSATIONS

NAME = "chat template"


def check_chat_templates(source: ModelSource, file: GgufFile) -> Check:
    """Return the check `chat template`: every template of the source, rendered from both."""
    expected, found = templates(source.metadata), templates(file.metadata)
    if not expected:
        if found:
            return unknown(NAME, "that of the source", "the source has none, the file has one")
        return judged(NAME, True, "none", "none")
    faults, rendered = [], 0
    for key, template in expected.items():
        other = found.get(key)
        if other is None:
            faults.append(f"{key} is missing")
            continue
        results = [_compare(template, other, source.metadata, file.metadata, each) for each in CONVERSATIONS]
        faults += [fault for fault, _ in results if fault]
        rendered += sum(accepted for _, accepted in results)
    tried = len(CONVERSATIONS) * len(expected)
    evidence = [listed(faults, 2)] if faults else []
    evidence.append(
        f"{rendered} of {tried} renderings accepted by the source's template, the others refused by both alike"
    )
    observed = f"{len(faults)} of {tried} renderings differ" if faults else "equal"
    return judged(NAME, not faults, f"{tried} renderings of the source's", observed, "; ".join(evidence))


def templates(metadata: Metadata) -> dict[str, str]:
    """Return the templates of a file by key."""
    return {
        key: value.value
        for key, value in metadata.items()
        if (key == KEY or key.startswith(f"{KEY}.")) and isinstance(value.value, str)
    }


def _compare(
    template: str, other: str, source: Metadata, file: Metadata, conversation: Conversation
) -> tuple[str | None, bool]:
    """Return what differs, and whether the source's template takes the conversation."""
    expected, accepted = _rendered(template, conversation, special_texts(source))
    found, _ = _rendered(other, conversation, special_texts(file))
    if expected == found:
        return None, accepted
    return f"{conversation.name}: {_parting(expected, found)}", accepted


def _rendered(template: str, conversation: Conversation, special: dict[str, str]) -> tuple[str, bool]:
    """Return the text, or the refusal, and which of the two it is."""
    try:
        return render(template, conversation, special), True
    except TemplateRefusalError as refusal:
        return f"(refused: {refusal})", False


def _parting(expected: str, found: str) -> str:
    at = first_difference(expected, found) or 0
    return f"{found[at : at + 30]!r} instead of {expected[at : at + 30]!r} at character {at}"
