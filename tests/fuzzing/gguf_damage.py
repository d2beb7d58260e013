"""Damage for GGUF files that keeps their frame whole, so that it reaches those who work with what the file says."""

import struct
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from fuzzing.mutations import INTEGERS, damaged_bytes

from toolkit.errors import ToolkitError
from toolkit.gguf.format import MetadataValue, Scalar, ValueType
from toolkit.gguf.ggml_types import TYPES, TensorType
from toolkit.gguf.layout import lay_out
from toolkit.gguf.reader import read_gguf

_LIMITS = {
    ValueType.UINT8: (0, 255), ValueType.INT8: (-128, 127), ValueType.UINT16: (0, 65535), ValueType.INT16: (-32768, 32767),
    ValueType.UINT32: (0, (1 << 32) - 1), ValueType.INT32: (-(1 << 31), (1 << 31) - 1), ValueType.UINT64: (0, (1 << 64) - 1),
    ValueType.INT64: (-(1 << 63), (1 << 63) - 1),
}  # fmt: skip
_FLOATS = (0.0, -1.0, 1e-45, 3e38, float("nan"), float("inf"), -float("inf"), 0.5, 1e4)
_TEXTS = (
    "",
    "a",
    "llama",
    "gpt2",
    "\udcff",
    "x" * 3000,
    "\x1b[31m",
    "{{",
    "{% for a in range(9) %}{% endfor %}",
    "../x",
    "q8_0",
)
_LENGTHS = (1, 2, 32, 255, 256, 257, 512, 1 << 20, 1 << 31, 1 << 40, 1 << 62)


@dataclass(frozen=True)
class _Tensor:
    name: str
    shape: tuple[int, ...]
    type: TensorType


def damaged_gguf(name: str, data: bytes, random: Random, parsed: dict[bytes, Any] = {}) -> bytes:  # noqa: B006
    """Return the file with other metadata, names, shapes or types and with bytes as they fall; or with bytes changed."""
    if random.random() < 0.4 or name.endswith(".dat"):
        return damaged_bytes(data, random)
    key = data[:4096]
    if key not in parsed:
        parsed[key] = _parsed(data)
    metadata, tensors = dict(parsed[key][0]), list(parsed[key][1])
    for _ in range(random.choice((1, 1, 2, 4))):
        if random.random() < 0.7 and metadata:
            _other_metadata(metadata, random)
        elif tensors:
            _other_tensor(tensors, random)
    try:
        layout = lay_out(metadata, tensors)
    except (ToolkitError, ValueError, struct.error):
        return damaged_bytes(data, random)
    if layout.file_bytes > len(data) + (1 << 20):
        return layout.header + data[len(layout.header) :]
    return layout.header + bytes(layout.file_bytes - len(layout.header))


def _parsed(data: bytes) -> tuple[dict[str, MetadataValue], list[_Tensor]]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.gguf")
        path.write_bytes(data)
        file = read_gguf(path)
        return (
            {**file.metadata, **file.split_metadata},
            [_Tensor(name, rows.shape, rows.type) for name, rows in file.tensors.items()],
        )


def _other_metadata(metadata: dict[str, MetadataValue], random: Random) -> None:
    key = random.choice(list(metadata))
    choice = random.random()
    if choice < 0.15:
        del metadata[key]
    elif choice < 0.25:
        metadata[random.choice(list(metadata))] = metadata[key]
    elif choice < 0.35:
        metadata[random.choice((f"{key}.x", "a", key.upper()))] = metadata.pop(key)
    else:
        old = metadata[key]
        same = old.type if old.item_type is None else old.item_type
        type_ = (
            same
            if random.random() < 0.6
            else random.choice([kind for kind in ValueType if kind is not ValueType.ARRAY])
        )
        metadata[key] = (
            _array(old, type_, random) if _becomes_array(old, random) else MetadataValue(type_, _scalar(type_, random))
        )


def _becomes_array(old: MetadataValue, random: Random) -> bool:
    return (old.type is ValueType.ARRAY) is (random.random() < 0.8)


def _array(old: MetadataValue, type_: ValueType, random: Random) -> MetadataValue:
    if isinstance(old.value, tuple) and old.item_type is type_ and random.random() < 0.6:
        items = list(old.value)
        if items and random.random() < 0.7:
            items[random.randrange(len(items))] = _scalar(type_, random)
        else:
            items = items[: random.choice((0, 1, len(items) // 2, len(items)))]
        return MetadataValue(ValueType.ARRAY, tuple(items), type_)
    count = random.choice((0, 1, 2, 3, 600))
    return MetadataValue(ValueType.ARRAY, tuple(_scalar(type_, random) for _ in range(count)), type_)


def _scalar(type_: ValueType, random: Random) -> Scalar:
    if type_ in _LIMITS:
        low, high = _LIMITS[type_]
        return random.choice([number for number in INTEGERS if low <= number <= high])
    if type_ is ValueType.STRING:
        return random.choice(_TEXTS)
    return random.random() < 0.5 if type_ is ValueType.BOOL else random.choice(_FLOATS)


def _other_tensor(tensors: list[_Tensor], random: Random) -> None:
    at = random.randrange(len(tensors))
    old = tensors[at]
    match random.randrange(4):
        case 0:
            del tensors[at]
        case 1:
            tensors[at] = _Tensor(
                random.choice((f"{old.name}x", "blk.9999.attn_q.weight", "blk.99999999999.x.weight", "a")),
                old.shape,
                old.type,
            )
        case 2:
            count = random.randrange(1, 5)
            tensors[at] = _Tensor(
                old.name, tuple(random.choice((*old.shape, *_LENGTHS)) for _ in range(count)), old.type
            )
        case _:
            tensors[at] = _Tensor(old.name, old.shape, random.choice(list(TYPES.values())))
