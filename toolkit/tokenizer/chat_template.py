"""The chat templates of a checkpoint as metadata; they are copied, never run."""

import re
from pathlib import Path
from typing import Any

from toolkit.errors import InputError
from toolkit.gguf.format import Metadata, ValueType, array, items, string
from toolkit.json_files import read_json_object, read_text
from toolkit.tokenizer.files import TokenizerFiles
from toolkit.tokenizer.vocabulary import TOKENS

KEY = "tokenizer.chat_template"
DEFAULT = "default"
_ROLES = {"bos_token": "bos", "eos_token": "eos", "pad_token": "padding", "unk_token": "unknown"}

Templates = dict[str, str]


def chat_template_metadata(files: TokenizerFiles) -> tuple[Metadata, tuple[str, ...]]:
    """Return the keys of the chat templates, and any warnings.

    tokenizer_config.json counts first, then chat_template.jinja with additional_chat_templates/, then
    chat_template.json. Source: SpecialVocab in llama.cpp's gguf/vocab.py, GGUFWriter.add_chat_template.
    """
    declared, separate = _named(files.settings.get("chat_template")), _separate(files)
    templates = declared or separate
    warnings: tuple[str, ...] = ()
    if declared and separate and declared.get(DEFAULT) != separate.get(DEFAULT):
        warnings = (
            "the chat template in tokenizer_config.json differs from the one in a file of its own; the former is used",
        )
    return _metadata(templates), warnings


def read_chat_template(path: Path) -> str:
    """Return the text of a template file.

    Raises InputError if the file is empty, CheckpointError if it is not text.
    """
    try:
        text = _text(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; --chat-template takes a file with a Jinja template") from error
    if not text.strip():
        raise InputError(f"{path} is empty, not a chat template")
    return text


def with_chat_template(metadata: Metadata, template: str) -> Metadata:
    """Return the keys of a model with this template in place of all that it had."""
    others = {key: value for key, value in metadata.items() if not key.startswith(KEY)}
    return others | {KEY: string(template)}


def default_template(metadata: Metadata) -> str | None:
    """Return the template that a model renders with, None if it has none or an empty one."""
    template = metadata.get(KEY)
    return str(template.value) if template is not None and str(template.value).strip() else None


def special_texts(metadata: Metadata) -> dict[str, str]:
    """Return the texts of the tokens that templates call `bos_token` and so on."""
    tokens = items(metadata, TOKENS)
    result = {}
    for name, role in _ROLES.items():
        index = metadata.get(f"tokenizer.ggml.{role}_token_id")
        known = index is not None and isinstance(index.value, int) and 0 <= index.value < len(tokens)
        result[name] = str(tokens[int(str(index.value))]) if known and index is not None else ""
    return result


def has_chat_template(files: TokenizerFiles) -> bool:
    """Tell whether the checkpoint brings a chat template."""
    return bool(_named(files.settings.get("chat_template")) or _separate(files))


def _separate(files: TokenizerFiles) -> Templates:
    jinja, as_json = files.path("chat_template.jinja"), files.path("chat_template.json")
    if jinja.is_file():
        additional = sorted(files.path("additional_chat_templates").glob("*.jinja"))
        return _stated({DEFAULT: _text(jinja)} | {path.stem: _text(path) for path in additional})
    return _named(read_json_object(as_json).get("chat_template")) if as_json.is_file() else {}


def _text(path: Any) -> str:
    # Line ends become those that Python's own text files have.
    return read_text(path).replace("\r\n", "\n").replace("\r", "\n")


def _named(value: Any) -> Templates:
    """Return templates by name from a `chat_template`: one text, or a list of {"name", "template"}."""
    if isinstance(value, str):
        return _stated({DEFAULT: value})
    choices = [choice for choice in value if isinstance(choice, dict)] if isinstance(value, list) else []
    return _stated(
        {
            name: template
            for choice in choices
            if isinstance(name := choice.get("name"), str) and isinstance(template := choice.get("template"), str)
        }
    )


def _stated(templates: Templates) -> Templates:
    """Leave out empty templates, so that they do not hide those of another file."""
    return {name: template for name, template in templates.items() if template.strip()}


def _metadata(templates: Templates) -> Metadata:
    metadata: Metadata = {}
    if DEFAULT in templates:
        metadata[KEY] = string(templates[DEFAULT])
    further = {re.sub("[^A-Za-z0-9]", "_", name): text for name, text in templates.items() if name not in ("", DEFAULT)}
    if further:
        metadata["tokenizer.chat_templates"] = array(ValueType.STRING, further)
    return metadata | {f"{KEY}.{name}": string(text) for name, text in further.items()}
