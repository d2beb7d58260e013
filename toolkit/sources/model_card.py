"""The general.* keys: name, size, authorship and sampling defaults, guessed as the ecosystem's own library guesses them."""

import logging
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.gguf.format import Metadata, MetadataValue, ValueType
from toolkit.json_files import read_json_object
from toolkit.sources.front_matter import CARD, read_front_matter
from toolkit.sources.metadata_overrides import NO_OVERRIDES, SAMPLING_TYPES, MetadataOverrides, is_entry, sampling_value

_SAMPLING = {
    "sequence": "sampling_sequence",
    "top_k": "sampling_top_k",
    "top_p": "sampling_top_p",
    "min_p": "sampling_min_p",
    "xtc_probability": "sampling_xtc_probability",
    "xtc_threshold": "sampling_xtc_threshold",
    "temperature": "sampling_temp",
    "penalty_last_n": "sampling_penalty_last_n",
    "penalty_repeat": "sampling_penalty_repeat",
    "mirostat": "sampling_mirostat",
    "mirostat_tau": "sampling_mirostat_tau",
    "mirostat_eta": "sampling_mirostat_eta",
}
"""Key of generation_config.json -> attribute of gguf.Metadata."""


_TEXTS = ("name", "author", "version", "organization", "description", "finetune", "basename", "size_label", "url", "doi",
          "uuid", "repo_url")  # fmt: skip
_KINDS = {
    **dict.fromkeys((*_TEXTS, *(f"model_{key}" for key in _TEXTS)), "text"),
    **dict.fromkeys(("model_creator", "model_type", "license_name", "license_link"), "text"),
    **dict.fromkeys(("license", "tags", "pipeline_tag", "languages", "language"), "texts"),
    **dict.fromkeys(
        ("base_model", "base_models", "base_model_sources", "datasets", "dataset", "dataset_sources"), "models"
    ),
}
"""Entries of a model card that become metadata -> what they may be; lists of texts or models may be a single one."""


@dataclass(frozen=True)
class ParameterCount:
    """Numbers of parameters; `expert` counts one expert of every layer of experts."""

    total: int
    shared: int
    expert: int
    n_expert: int


def count_parameters(tensors: list[tuple[str, tuple[int, ...]]]) -> ParameterCount:
    """Count parameters as `GGUFWriter.get_total_parameter_count` does; shapes with the row length last."""
    shared = expert = expert_sum = expert_tensors = total = 0
    for name, shape in tensors:
        size = math.prod(shape)
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


@dataclass(frozen=True)
class General:
    """What a checkpoint's files say of its name and authorship."""

    metadata: Metadata
    """general.* keys"""
    stem: str
    """the name of its files without type and suffix"""
    warnings: tuple[str, ...] = ()


def general_metadata(
    directory: Path, architecture: str, count: ParameterCount, overrides: MetadataOverrides = NO_OVERRIDES
) -> General:
    """Return the general.* keys of a checkpoint.

    The gguf library guesses from the model card, the config and the directory's name; the files are read here, because
    the library fails over a byte order mark and over cards that are not YAML, or YAML of another kind.
    """
    import gguf

    logging.getLogger("gguf").setLevel(logging.ERROR)
    logging.getLogger("metadata").setLevel(logging.CRITICAL)
    published = hub_name(directory)
    # Without UTF-8 mode a name may have been decoded by another code page; its bytes are what counts.
    named = Path(published or os.fsencode(directory).decode("utf-8", "surrogateescape"))
    entries, warnings = _model_card(directory)
    card = gguf.Metadata.apply_metadata_heuristic(
        gguf.Metadata(),
        entries | dict(overrides.card),
        _published_name(directory, published),
        named,
        count.total,
    )
    if card.name is None:
        card.name = named.name
    _set_sampling(card, directory)
    for attribute, value in overrides.values.items():
        setattr(card, attribute, value)
    if card.size_label is None and count.total > 0:
        card.size_label = gguf.size_label(count.total, count.shared, count.expert, count.n_expert)
    recorder = gguf.GGUFWriter(None, architecture)
    recorder.add_type("model")
    card.set_gguf_meta_model(recorder)
    metadata = {key: _value(value) for key, value in recorder.kv_data[0].items()}
    return General(metadata, _file_stem(card, named.name), warnings)


def _file_stem(card: Any, fallback: str) -> str:
    import gguf

    parts = (card.basename, card.finetune, card.version, card.size_label)
    texts = [None if part is None else str(part) for part in parts]
    return str(gguf.naming_convention(str(card.name) or fallback, *texts, None))


def _model_card(directory: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the entries of the model card that the gguf library can use, and a warning where something is left out."""
    front = read_front_matter(directory)
    if front.problem:
        return {}, (f"{CARD} is left out, its front matter cannot be read: {front.problem}",)
    card = {key: _of_its_kind(key, value) for key, value in front.entries.items() if key in _KINDS}
    odd = sorted(key for key, value in card.items() if value is None)
    warnings = (f"{CARD}: left out {', '.join(odd)}, which {'is' if len(odd) == 1 else 'are'} no text there",)
    return {key: value for key, value in card.items() if value is not None}, warnings if odd else ()


def _of_its_kind(key: str, value: Any) -> Any:
    """Return what the gguf library can work with under a key: a text, a list of texts or of models; else None."""
    if isinstance(value, str):
        return value
    if _KINDS[key] == "text" or not isinstance(value, list):
        return None
    items = [item for item in value if item is not None]
    if all(isinstance(item, str) or (_KINDS[key] == "models" and is_entry(item)) for item in items):
        return items
    return None


def _published_name(directory: Path, published: str | None) -> dict[str, str]:
    config = directory / "config.json"  # which an adapter lacks
    name = published or (read_json_object(config).get("_name_or_path") if config.is_file() else None)
    return {"_name_or_path": name} if isinstance(name, str) else {}


def _set_sampling(card: Any, directory: Path) -> None:
    file = directory / "generation_config.json"
    values = read_json_object(file) if file.is_file() else {}
    # transformers' name for the penalty, which gguf 0.19 does not look for
    values.setdefault("penalty_repeat", values.get("repetition_penalty"))
    for key, attribute in _SAMPLING.items():
        value = sampling_value(values.get(key), SAMPLING_TYPES[attribute])
        if value is not None:
            setattr(card, attribute, value)


def _value(recorded: object) -> MetadataValue:
    type_, value = ValueType(int(recorded.type)), recorded.value  # type: ignore[attr-defined]
    if type_ is not ValueType.ARRAY:
        return MetadataValue(type_, value)
    return MetadataValue(type_, tuple(str(item) for item in value), ValueType.STRING)
