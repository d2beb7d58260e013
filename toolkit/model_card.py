"""The general.* keys: name, size, authorship and sampling defaults, guessed as the ecosystem's own library guesses them."""

import logging
from dataclasses import dataclass
from pathlib import Path

from toolkit.gguf_format import Metadata, MetadataValue, ValueType
from toolkit.json_files import read_json_object


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


def general_metadata(directory: Path, architecture: str, count: ParameterCount) -> tuple[Metadata, str]:
    """Return the general.* keys of a checkpoint, and the name of its files without type and suffix.

    The model card, the directory's name and generation_config.json are read by the gguf library.
    """
    import gguf

    logging.getLogger("gguf").setLevel(logging.ERROR)
    card = gguf.Metadata.load(None, directory, None, count.total)
    if card.name is None:
        card.name = directory.name
    if card.sampling_penalty_repeat is None:
        card.sampling_penalty_repeat = _repetition_penalty(directory)
    if card.size_label is None and count.total > 0:
        card.size_label = gguf.size_label(count.total, count.shared, count.expert, count.n_expert)
    recorder = gguf.GGUFWriter(None, architecture)
    recorder.add_type("model")
    card.set_gguf_meta_model(recorder)
    stem = gguf.naming_convention(card.name, card.basename, card.finetune, card.version, card.size_label, None)
    return {key: _value(value) for key, value in recorder.kv_data[0].items()}, stem


def _repetition_penalty(directory: Path) -> float | None:
    """Return the penalty under the name that transformers gives it, which gguf 0.19 does not look for."""
    file = directory / "generation_config.json"
    value = read_json_object(file).get("repetition_penalty") if file.is_file() else None
    return value if isinstance(value, int | float) else None


def _value(recorded: object) -> MetadataValue:
    type_, value = ValueType(int(recorded.type)), recorded.value  # type: ignore[attr-defined]
    if type_ is not ValueType.ARRAY:
        return MetadataValue(type_, value)
    items = ValueType.STRING if isinstance(value[0], str) else ValueType.INT32
    return MetadataValue(type_, tuple(value), items)
