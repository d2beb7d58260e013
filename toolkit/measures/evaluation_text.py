"""The text that quality is measured on, with the hash that says whether two measurements may be compared.

As chat, a text is what a chat model reads in use: paragraphs (separated by blank lines) are taken as turns, of which the
user says the first, the assistant the second, and so on. After TURNS of them another conversation begins, because long ones
are rare in use. The chat template that the model carries renders every conversation, and one follows the other. A last
paragraph without an answer is left out.
"""

import hashlib
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.errors import TextError
from toolkit.gguf.format import Metadata
from toolkit.measures.chat_rendering import Conversation, TemplateRefusalError, TemplateRenderer
from toolkit.tokenizer.chat_template import default_template, special_texts

if TYPE_CHECKING:
    from toolkit.llama.runtime import LlamaRuntime

DEMO, WIKITEXT = "demo", "wikitext-2"
_WIKITEXT_REPO, _WIKITEXT_ARCHIVE = "ggml-org/ci", "wikitext-2-raw-v1.zip"
_WIKITEXT_MEMBER = "wikitext-2-raw/wiki.test.raw"
"""What llama-perplexity's own documentation measures on."""
_LARGEST_MEMBER = 64 << 20
TURNS = 6
_ROLES = ("user", "assistant")
_BLANK_LINES = re.compile(r"\n\s*\n")


@dataclass(frozen=True)
class EvaluationText:
    """A text, what it is called, and the SHA-256 of its UTF-8 bytes."""

    name: str
    text: str
    sha256: str
    is_chat: bool = False
    """whether special tokens written in it are read as special tokens"""


def named_text(name: str) -> EvaluationText:
    """Return the text that an option means: a file, `demo` for the text that Python carries, or `wikitext-2`.

    Raises TextError as `read_text` does, HubError if WikiText-2 is not cached and cannot be fetched.
    """
    path = Path(name)
    if name == WIKITEXT and not path.is_file():
        return _wikitext()
    return read_text(None if name == DEMO and not path.is_file() else path)


def read_text(path: Path | None = None) -> EvaluationText:
    """Return the text of a UTF-8 file, or the text that Python carries.

    Raises TextError if the file is missing, empty, or not text.
    """
    if path is None:
        return with_hash(f"the last fifth of pydoc_data.topics, Python {platform.python_version()}", _python_topics())
    text = _decode(path, _read(path))
    if not text.strip():
        raise TextError(f"{path} is empty; give a file with text of the kind that the model is for")
    return with_hash(path.name, text)


def with_hash(name: str, text: str, *, is_chat: bool = False) -> EvaluationText:
    """Return a text under a name."""
    return EvaluationText(name, text, hashlib.sha256(text.encode("utf-8")).hexdigest(), is_chat)


def tokens_of(runtime: "LlamaRuntime", text: EvaluationText) -> list[int]:
    """Return the tokens of a text as llama-perplexity takes them; special tokens that a chat template wrote are special tokens."""
    return runtime.tokenize_rendered(text.text) if text.is_chat else runtime.tokenize(text.text)


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
            parts = [renderer.render(template, talk, special) for talk in conversations(text.text)]
    except TemplateRefusalError as refusal:
        raise TextError(f"the chat template of {model} does not take paragraphs as turns: {refusal}") from refusal
    if not parts:
        raise TextError(f"{text.name} needs two paragraphs, separated by a blank line, to make a conversation of")
    return with_hash(f"{text.name} as chat", "".join(parts), is_chat=True)


def conversations(text: str) -> Iterator[Conversation]:
    """Yield the conversations that paragraphs make."""
    paragraphs = [part.strip() for part in _BLANK_LINES.split(text) if part.strip()]
    answered = len(paragraphs) // 2 * 2
    for start in range(0, answered, TURNS):
        turns = enumerate(paragraphs[start : min(start + TURNS, answered)])
        messages = tuple({"role": _ROLES[index % 2], "content": paragraph} for index, paragraph in turns)
        yield Conversation(f"paragraph {start + 1}", messages, add_generation_prompt=False)


def _wikitext() -> EvaluationText:
    """Return the test set of WikiText-2, fetched once into the hub's cache."""
    # Imported here because it is slow, and no other text needs it.
    import zipfile

    from toolkit.hub import fetch_dataset_file

    path = fetch_dataset_file(_WIKITEXT_REPO, _WIKITEXT_ARCHIVE)
    try:
        with zipfile.ZipFile(path) as archive:
            member = archive.getinfo(_WIKITEXT_MEMBER)
            if member.file_size > _LARGEST_MEMBER:
                raise TextError(f"{path}: {member.filename} claims {member.file_size:,} bytes: damaged; delete it")
            data = archive.read(member)
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise TextError(
            f"{path} is not an archive with {_WIKITEXT_MEMBER} in it; delete it, and it is fetched again"
        ) from error
    return with_hash(WIKITEXT, _decode(path, data))


def _python_topics() -> str:
    from pydoc_data.topics import topics

    names = sorted(topics)
    # The embedded demo model was trained on what comes before.
    return "\n\n".join(topics[name] for name in names[len(names) * 4 // 5 :])


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TextError(f"{path} cannot be read ({error.strerror}); give a text file in UTF-8") from error


def _decode(path: Path, data: bytes) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TextError(f"{path} is not UTF-8 text (byte {error.start:,}); give a text file in UTF-8") from error
    if "\0" in text:
        raise TextError(
            f"{path} is binary, not text (a NUL at character {text.index(chr(0)):,}); give a text file in UTF-8"
        )
    return text
