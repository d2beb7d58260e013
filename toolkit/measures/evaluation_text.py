"""The text that quality is measured on, with the hash that says whether two measurements may be compared."""

import hashlib
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.errors import TextError

if TYPE_CHECKING:
    from toolkit.llama.runtime import LlamaRuntime

DEMO, WIKITEXT = "demo", "wikitext-2"
_WIKITEXT_REPO, _WIKITEXT_ARCHIVE = "ggml-org/ci", "wikitext-2-raw-v1.zip"
_WIKITEXT_MEMBER = "wikitext-2-raw/wiki.test.raw"
"""What llama-perplexity's own documentation measures on."""
_LARGEST_MEMBER = 64 << 20


@dataclass(frozen=True)
class EvaluationText:
    """A text, what it is called, and the SHA-256 of its UTF-8 bytes."""

    name: str
    text: str
    sha256: str
    is_chat: bool = False
    """whether special tokens written in it are meant"""


def named_text(name: str) -> EvaluationText:
    """Return the text that an option means: a file, `demo` for the text that every Python carries, or `wikitext-2`.

    Raises TextError as `read_text` does, HubError if WikiText-2 is neither cached nor to be had.
    """
    path = Path(name)
    if name == WIKITEXT and not path.is_file():
        return _wikitext()
    return read_text(None if name == DEMO and not path.is_file() else path)


def read_text(path: Path | None = None) -> EvaluationText:
    """Return the text of a UTF-8 file, or the text that every Python carries.

    Raises TextError if the file is missing, empty, or no text.
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
    """Return the tokens of a text as llama-perplexity takes them; what a chat template wrote is taken for what it is."""
    return runtime.tokenize_rendered(text.text) if text.is_chat else runtime.tokenize(text.text)


def _wikitext() -> EvaluationText:
    """Return the test set of WikiText-2, fetched once into the hub's cache."""
    # Imported here, because it takes long and no other text needs it.
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
            f"{path} is no archive with {_WIKITEXT_MEMBER} in it; delete it, and it is fetched anew"
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
