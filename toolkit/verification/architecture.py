"""Whether a file describes its model as the source does: rope, epsilons, heads and all other keys of the architecture."""

import math
from collections.abc import Iterable

from toolkit.gguf.format import Metadata, MetadataValue, Scalar, uint32
from toolkit.gguf.reader import GgufFile
from toolkit.model_source import ModelSource
from toolkit.verification.check import Check, judged, listed

_NAME = "general.architecture"
_FLOAT_TOLERANCE = 1e-6
"""relative: some writers round to float32 earlier than others"""


def check_architecture(source: ModelSource, file: GgufFile) -> Check:
    """Return the check `architecture`; keys that llama.cpp fills in itself may be absent."""
    prefix = f"{source.traits.architecture}."
    wanted = {key: value for key, value in source.metadata.items() if key == _NAME or key.startswith(prefix)}
    found = implied(file.metadata, prefix) | file.metadata
    wrong = [
        f"{key} is {_shown(found.get(key))}, expected {_shown(value)}"
        for key, value in wanted.items()
        if not _equal(found.get(key), value)
    ]
    observed = f"{len(wrong)} differ" if wrong else "equal"
    return judged(
        "architecture", not wrong, f"{len(wanted)} keys of {prefix}* as the source implies", observed, listed(wrong)
    )


def implied(metadata: Metadata, prefix: str) -> Metadata:
    """Return the sizes that llama.cpp assumes where a file does not give them (`load_hparams` in src/llama-model.cpp)."""
    width, heads = _first(metadata, f"{prefix}embedding_length"), _first(metadata, f"{prefix}attention.head_count")
    tokens = metadata.get("tokenizer.ggml.tokens")
    result: Metadata = {}
    if width and heads:
        size = uint32(width // heads)
        keys = ("attention.key_length", "attention.value_length", "rope.dimension_count")
        result |= {f"{prefix}{key}": size for key in keys}
    if tokens is not None and isinstance(tokens.value, tuple):
        result[f"{prefix}vocab_size"] = uint32(len(tokens.value))
    return result


def _first(metadata: Metadata, key: str) -> int | None:
    stored = metadata.get(key)
    if stored is None:
        return None
    value = stored.value[0] if isinstance(stored.value, tuple) and stored.value else stored.value
    return value if isinstance(value, int) else None


def _equal(found: MetadataValue | None, expected: MetadataValue) -> bool:
    if found is None:
        return False
    ours, theirs = _items(expected), _items(found)
    return len(ours) == len(theirs) and all(map(_close, ours, theirs))


def _items(value: MetadataValue) -> list[Scalar]:
    """Return the items; an array of one value for all blocks says what that value alone says."""
    items = list(value.value) if isinstance(value.value, tuple) else [value.value]
    return items[:1] if len(items) > 1 and _all_equal(items) else items


def _all_equal(items: Iterable[Scalar]) -> bool:
    return len(set(items)) == 1


def _close(first: Scalar, second: Scalar) -> bool:
    if isinstance(first, float) and isinstance(second, float):
        return math.isclose(first, second, rel_tol=_FLOAT_TOLERANCE) or (math.isnan(first) and math.isnan(second))
    return first == second


def _shown(value: MetadataValue | None) -> str:
    if value is None:
        return "absent"
    if isinstance(value.value, tuple):
        return str(list(value.value[:8]))
    return f"{value.value:.7g}" if isinstance(value.value, float) else repr(value.value)
