"""What the user says of a model's name and authorship, in place of what its files say: general.* keys of the GGUF file.

A file is the JSON object that llama.cpp's converter takes for --metadata: keys as they stand in GGUF, `general.base_models`
and `general.datasets` being lists of objects.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toolkit.errors import InputError
from toolkit.gguf.format import MAX_INTEGER, is_number
from toolkit.json_files import read_json_object

TEXTS = (
    "name", "author", "version", "organization", "finetune", "basename", "description", "quantized_by", "size_label",
    "license", "license_name", "license_link", "url", "doi", "uuid", "repo_url", "source_url", "source_doi", "source_uuid",
    "source_repo_url",
)  # fmt: skip
LISTS = ("tags", "languages")
SAMPLING_TYPES: dict[str, type] = {
    "sampling_sequence": str, "sampling_top_k": int, "sampling_top_p": float, "sampling_min_p": float,
    "sampling_xtc_probability": float, "sampling_xtc_threshold": float, "sampling_temp": float,
    "sampling_penalty_last_n": int, "sampling_penalty_repeat": float,
    "sampling_mirostat": int, "sampling_mirostat_tau": float, "sampling_mirostat_eta": float,
}  # fmt: skip
MODELS = {"base_model": "base_model", "dataset": "datasets"}
"""Key, as given as KEY=VALUE -> what a model card calls its list of `org/name`s."""
ENTRIES = ("base_models", "datasets")
ENTRY_KEYS = ("name", "author", "version", "organization", "description", "url", "doi", "uuid", "repo_url")
"""of the objects in the lists that stand under ENTRIES in a file"""


@dataclass(frozen=True)
class MetadataOverrides:
    """Values that replace those from the files of a model."""

    values: Mapping[str, Any] = field(default_factory=dict)
    """by key, without `general.` and with underscores for dots"""
    card: Mapping[str, list[str]] = field(default_factory=dict)
    """entries that replace those of the model card"""


NO_OVERRIDES = MetadataOverrides()


def parse_overrides(texts: Sequence[str], name: str | None = None) -> MetadataOverrides:
    """Return what KEY=VALUE texts and JSON files say, the later before the earlier, and `name` before all.

    Raises InputError for keys that GGUF does not know and values that are not of their kind.
    """
    values: dict[str, Any] = {}
    card: dict[str, list[str]] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        key = _bare(key)
        if not equals:
            values |= _from_file(Path(text))
        elif key in MODELS:
            card[MODELS[key]] = _items(value)
        elif key in LISTS:
            values[key] = _items(value)
        elif key in TEXTS:
            values[key] = value
        else:
            raise InputError(f"--metadata {text!r}: {key} is not one of {', '.join((*TEXTS, *LISTS, *MODELS))}")
    return MetadataOverrides(values if name is None else values | {"name": name}, card)


def _bare(key: str) -> str:
    return key.removeprefix("general.").replace(".", "_")


def sampling_value(value: Any, type_: type) -> str | int | float | None:
    """Return a value of the type that its GGUF key has, or None."""
    if type_ is str:
        return value if isinstance(value, str) else None
    if not is_number(value):
        return None
    number = float(value)
    if type_ is float:
        return number
    return int(number) if number.is_integer() and abs(number) <= MAX_INTEGER else None


def _items(value: str) -> list[str]:
    return [item.strip() for item in value.split(",") if item.strip()]


def _from_file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"--metadata {str(path)!r} is neither KEY=VALUE nor a JSON file")
    return {_bare(key): _checked(path, key, value) for key, value in read_json_object(path).items()}


def _checked(path: Path, key: str, value: Any) -> Any:
    bare = _bare(key)
    if bare in TEXTS and isinstance(value, str):
        return value
    if bare in LISTS and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    if bare in ENTRIES and isinstance(value, list) and all(map(is_entry, value)):
        return value
    if bare in SAMPLING_TYPES and (number := sampling_value(value, SAMPLING_TYPES[bare])) is not None:
        return number
    known = {
        **dict.fromkeys(TEXTS, "a text"),
        **dict.fromkeys(LISTS, "a list of texts"),
        **dict.fromkeys(ENTRIES, "a list of objects of texts"),
        **{sampling: f"a value of type {type_.__name__}" for sampling, type_ in SAMPLING_TYPES.items()},
    }
    if bare in known:
        raise InputError(f"{path.name}: {key} is {str(value)[:60]!r}, expected {known[bare]}")
    raise InputError(f"{path.name}: {key} is not one of {', '.join(known)}")


def is_entry(item: Any) -> bool:
    """Tell whether a value describes another model or a data set in texts under known keys."""
    return isinstance(item, dict) and all(key in ENTRY_KEYS and isinstance(value, str) for key, value in item.items())
