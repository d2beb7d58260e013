"""The text that quality is measured on, with the hash that says whether two measurements may be compared."""

import hashlib
import platform
from dataclasses import dataclass
from pathlib import Path

from toolkit.errors import TextError

DEMO = "demo"


@dataclass(frozen=True)
class EvaluationText:
    """A text, what it is called, and the SHA-256 of its UTF-8 bytes."""

    name: str
    text: str
    sha256: str


def named_text(name: str) -> EvaluationText:
    """Return the text that an option means: `demo` for the text that every Python carries, or a file.

    Raises TextError as `read_text` does.
    """
    path = Path(name)
    return read_text(None if name == DEMO and not path.exists() else path)


def read_text(path: Path | None = None) -> EvaluationText:
    """Return the text of a UTF-8 file, or the text that every Python carries.

    Raises TextError if the file is missing, empty, or no text.
    """
    if path is None:
        return _named(f"the last fifth of pydoc_data.topics, Python {platform.python_version()}", _python_topics())
    text = _decode(path, _read(path))
    if not text.strip():
        raise TextError(f"{path} is empty; give a file with text of the kind that the model is for")
    return _named(path.name, text)


def _named(name: str, text: str) -> EvaluationText:
    return EvaluationText(name, text, hashlib.sha256(text.encode("utf-8")).hexdigest())


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
        raise TextError(f"{path} is binary, not text (a NUL at character {text.index(chr(0)):,})")
    return text
