"""The general.* keys: name, size, authorship and sampling defaults, guessed as the ecosystem's own library guesses them."""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.gguf_format import Metadata, MetadataValue, ValueType
from toolkit.json_files import MAX_INTEGER, is_number, read_json_object

_SAMPLING: dict[str, tuple[str, type]] = {
    "sequence": ("sampling_sequence", str),
    "top_k": ("sampling_top_k", int),
    "top_p": ("sampling_top_p", float),
    "min_p": ("sampling_min_p", float),
    "xtc_probability": ("sampling_xtc_probability", float),
    "xtc_threshold": ("sampling_xtc_threshold", float),
    "temperature": ("sampling_temp", float),
    "penalty_last_n": ("sampling_penalty_last_n", int),
    "penalty_repeat": ("sampling_penalty_repeat", float),
    "mirostat": ("sampling_mirostat", int),
    "mirostat_tau": ("sampling_mirostat_tau", float),
    "mirostat_eta": ("sampling_mirostat_eta", float),
}
"""Key of generation_config.json -> attribute of gguf.Metadata, and its type."""


@dataclass(frozen=True)
class ParameterCount:
    """Numbers of parameters; `expert` counts one expert of every mixture."""

    total: int
    shared: int
    expert: int
    n_expert: int


def count_parameters(tensors: list[tuple[str, tuple[int, ...]]]) -> ParameterCount:
    """Count parameters as `GGUFWriter.get_total_parameter_count` does; shapes with the row length last."""
    shared = expert = expert_sum = expert_tensors = total = 0
    for name, shape in tensors:
        size = 1
        for length in shape:
            size *= length
        total += size
        if "_exps." in name and len(shape) >= 3:
            expert += size // shape[0]
            expert_sum += shape[0]
            expert_tensors += 1
        else:
            shared += size
    return ParameterCount(total, shared, expert, expert_sum // expert_tensors if expert_tensors else 0)


def hub_name(directory: Path) -> str | None:
    """Return `org/name` of a folder in the hub's cache, which itself is called after a commit."""
    repository = directory.parent.parent.name
    if directory.parent.name != "snapshots" or not repository.startswith("models--"):
        return None
    return repository.removeprefix("models--").replace("--", "/", 1)


def general_metadata(directory: Path, architecture: str, count: ParameterCount) -> tuple[Metadata, str]:
    """Return the general.* keys of a checkpoint, and the name of its files without type and suffix.

    The gguf library guesses from the model card, the config and the directory's name; the files are read here, because
    the library takes neither a byte order mark nor a model card that is no YAML.
    """
    import gguf

    logging.getLogger("gguf").setLevel(logging.ERROR)
    logging.getLogger("metadata").setLevel(logging.CRITICAL)
    published = hub_name(directory)
    # Without UTF-8 mode a name may have been decoded by another code page; its bytes are what counts.
    named = Path(published or os.fsencode(directory).decode("utf-8", "surrogateescape"))
    card = gguf.Metadata.apply_metadata_heuristic(
        gguf.Metadata(), _model_card(directory), _published_name(directory, published), named, count.total
    )
    if card.name is None:
        card.name = named.name
    _set_sampling(card, directory)
    if card.size_label is None and count.total > 0:
        card.size_label = gguf.size_label(count.total, count.shared, count.expert, count.n_expert)
    recorder = gguf.GGUFWriter(None, architecture)
    recorder.add_type("model")
    card.set_gguf_meta_model(recorder)
    return {key: _value(value) for key, value in recorder.kv_data[0].items()}, _file_stem(card, named.name)


def _file_stem(card: Any, fallback: str) -> str:
    import gguf

    parts = (card.basename, card.finetune, card.version, card.size_label)
    texts = [None if part is None else str(part) for part in parts]
    return str(gguf.naming_convention(str(card.name) or fallback, *texts, None))


def _model_card(directory: Path) -> dict[str, Any]:
    """Return the front matter of README.md; one that cannot be read is no reason to refuse a model."""
    import gguf
    import yaml  # type: ignore[import-untyped]  # the gguf library's own parser

    try:
        card: dict[str, Any] = gguf.Metadata.load_model_card(directory)
    except (yaml.YAMLError, UnicodeDecodeError, OSError):
        return {}
    return {key: value for key, value in card.items() if value is not None}


def _published_name(directory: Path, published: str | None) -> dict[str, str]:
    config = directory / "config.json"  # which an adapter lacks
    name = published or (read_json_object(config).get("_name_or_path") if config.is_file() else None)
    return {"_name_or_path": name} if isinstance(name, str) else {}


def _set_sampling(card: Any, directory: Path) -> None:
    file = directory / "generation_config.json"
    values = read_json_object(file) if file.is_file() else {}
    # transformers' name for the penalty, which gguf 0.19 does not look for
    values.setdefault("penalty_repeat", values.get("repetition_penalty"))
    for key, (attribute, type_) in _SAMPLING.items():
        value = _sampling_value(values, key, type_)
        if value is not None:
            setattr(card, attribute, value)


def _sampling_value(values: Mapping[str, Any], key: str, type_: type) -> str | int | float | None:
    """Return a value of the type that its GGUF key has, or None."""
    value = values.get(key)
    if type_ is str:
        return value if isinstance(value, str) else None
    if not is_number(value):
        return None
    number = float(value)  # type: ignore[arg-type]  # is_number has looked
    if type_ is float:
        return number
    return int(number) if number.is_integer() and abs(number) <= MAX_INTEGER else None


def _value(recorded: object) -> MetadataValue:
    type_, value = ValueType(int(recorded.type)), recorded.value  # type: ignore[attr-defined]
    if type_ is not ValueType.ARRAY:
        return MetadataValue(type_, value)
    return MetadataValue(type_, tuple(str(item) for item in value), ValueType.STRING)
