"""The files that describe a tokenizer, read as data: nothing of a model directory is ever executed."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toolkit.errors import TokenizerError
from toolkit.json_files import read_json_object

STYLE_FILES: dict[str, tuple[str, ...]] = {
    "tekken": ("tekken.json",),
    "sentencepiece": ("tokenizer.model",),
    "llama_hf": ("tokenizer.json",),
    "bpe": ("tokenizer.json", "vocab.json with merges.txt"),
    "gemma4": ("tokenizer.json",),
    "wordpiece": ("tokenizer.json", "vocab.txt"),
    "t5": ("tokenizer.model", "spiece.model", "tokenizer.json"),
    "xlm_roberta": ("sentencepiece.bpe.model", "tokenizer.json"),
    "qwen_tiktoken": ("qwen.tiktoken",),
    "kimi_tiktoken": ("tiktoken.model",),
}
"""Style of vocabulary -> the files that hold one."""
ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")


@dataclass(frozen=True, slots=True)
class AddedToken:
    """A token that was added to a trained vocabulary."""

    id: int
    text: str
    special: bool = True
    normalized: bool = False


@dataclass(frozen=True)
class TokenizerFiles:
    """The JSON files of a tokenizer; one that is absent is None (or empty, where that means the same)."""

    directory: Path
    tokenizer_json: Mapping[str, Any] | None
    tokenizer_config: Mapping[str, Any] | None
    added_tokens: Mapping[str, int] = field(default_factory=dict)
    special_tokens_map: Mapping[str, Any] = field(default_factory=dict)
    generation_config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> Mapping[str, Any]:
        """Return tokenizer_config.json, empty if there is none."""
        return self.tokenizer_config or {}

    @property
    def model(self) -> Mapping[str, Any]:
        """Return the `model` of tokenizer.json, empty if there is none."""
        model = (self.tokenizer_json or {}).get("model")
        return model if isinstance(model, dict) else {}

    def path(self, name: str) -> Path:
        """Return the path of a file, whether it exists or not."""
        return self.directory / name


def open_tokenizer_files(directory: Path) -> TokenizerFiles:
    """Read the JSON files of a tokenizer.

    Raises InputError if one of them is malformed or a git-lfs pointer.
    """
    added = _read(directory, "added_tokens.json") or {}
    for text, index in added.items():
        _checked_id(index, f"added_tokens.json: {text!r}")
    return TokenizerFiles(
        directory=directory,
        tokenizer_json=_read(directory, "tokenizer.json"),
        tokenizer_config=_read(directory, "tokenizer_config.json"),
        added_tokens=added,
        special_tokens_map=_read(directory, "special_tokens_map.json") or {},
        generation_config=_read(directory, "generation_config.json") or {},
    )


def missing_tokenizer(files: TokenizerFiles, styles: Iterable[str]) -> TokenizerError:
    """Return the error for a directory without a vocabulary of these styles."""
    wanted = list(dict.fromkeys(name for style in styles for name in STYLE_FILES[style]))
    known = {name for names in STYLE_FILES.values() for name in names}
    others = [name for name in sorted(known - set(wanted)) if files.path(name).is_file()]
    advice = f"{others[0]} is of another kind" if others else "copy them from the model it came from"
    return TokenizerError(f"{files.directory} has no tokenizer: looked for {', '.join(wanted)}; {advice}")


def normalizer_steps(normalizer: Any) -> Iterator[Mapping[str, Any]]:
    """Yield a `normalizer` of tokenizer.json and those that it contains."""
    if not isinstance(normalizer, dict):
        return
    yield normalizer
    nested = normalizer.get("normalizers")
    for step in nested if isinstance(nested, list) else ():
        yield from normalizer_steps(step)


def pre_tokenizer_steps(pre_tokenizer: Any) -> list[Any]:
    """Return a `pre_tokenizer` of tokenizer.json as the steps in which it splits text."""
    if isinstance(pre_tokenizer, dict) and pre_tokenizer.get("type") == "Sequence":
        nested = pre_tokenizer.get("pretokenizers")
        return [part for step in (nested if isinstance(nested, list) else []) for part in pre_tokenizer_steps(step)]
    return [] if pre_tokenizer is None else [pre_tokenizer]


def token_text(entry: Any) -> str | None:
    """Return the text of a token that is given as a string or as {"content": text}."""
    text = entry.get("content") if isinstance(entry, dict) else entry
    return text if isinstance(text, str) else None


def role_texts(files: TokenizerFiles) -> dict[str, str]:
    """Return which text tokenizer_config.json names for each role."""
    named = {role: token_text(files.settings.get(f"{role}_token")) for role in ROLES}
    return {role: text for role, text in named.items() if text}


def named_special_texts(files: TokenizerFiles) -> list[str]:
    """Return the texts that are special because a file names them, in the order of the roles."""
    source = dict(files.settings)
    if "added_tokens_decoder" not in source:
        source = dict(files.special_tokens_map) | source
    entries = [source.get(f"{role}_token") for role in ROLES]
    additional = source.get("additional_special_tokens")
    entries += additional if isinstance(additional, list) else []
    return [text for entry in entries if (text := token_text(entry))]


def tokenizer_json_added_tokens(files: TokenizerFiles) -> list[AddedToken]:
    """Return the `added_tokens` of tokenizer.json.

    Raises TokenizerError if an entry is malformed.
    """
    entries = (files.tokenizer_json or {}).get("added_tokens") or []
    return [_added("tokenizer.json: added_tokens", entry, entry.get("id")) for entry in _objects(entries)]


def decoder_added_tokens(files: TokenizerFiles) -> list[AddedToken]:
    """Return the `added_tokens_decoder` of tokenizer_config.json.

    Raises TokenizerError if an entry is malformed.
    """
    decoder = files.settings.get("added_tokens_decoder")
    place = "tokenizer_config.json: added_tokens_decoder"
    items = decoder.items() if isinstance(decoder, dict) else ()
    return [_added(place, entry, int(key) if key.isdecimal() else key) for key, entry in items]


def _objects(entries: Any) -> Iterator[dict[str, Any]]:
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, dict):
            raise TokenizerError(
                f"tokenizer.json: added_tokens holds {entry!r}, expected an object with id and content"
            )
        yield entry


def _added(place: str, entry: Any, index: Any) -> AddedToken:
    text = token_text(entry)
    if text is None or not isinstance(entry, dict):
        raise TokenizerError(f"{place} has an entry without a text: {entry!r}")
    special, normalized = bool(entry.get("special", False)), bool(entry.get("normalized", False))
    return AddedToken(_checked_id(index, f"{place}: {text!r}"), text, special, normalized)


def _checked_id(index: Any, place: str) -> int:
    if not isinstance(index, int) or isinstance(index, bool) or index < 0:
        raise TokenizerError(f"{place} has the id {index!r}, expected a whole number of at least 0")
    return index


def _read(directory: Path, name: str) -> dict[str, Any] | None:
    path = directory / name
    return read_json_object(path) if path.is_file() else None
