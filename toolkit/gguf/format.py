"""The parts of the GGUF format that readers, writers and everything between them share.

Source: docs/gguf.md and ggml/src/gguf.cpp of llama.cpp.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from operator import index
from typing import SupportsIndex

from toolkit.errors import MetadataError

MAGIC = b"GGUF"
VERSION = 3
DEFAULT_ALIGNMENT = 32
MAX_NAME_BYTES = 63
MAX_DIMENSIONS = 4
QUANTIZATION_VERSION = 2
MAX_INTEGER, MAX_NUMBER = 2**31 - 1, 3.4e38
"""what 32-bit values hold"""
EMBEDDING, OUTPUT = "token_embd.weight", "output.weight"
"""the tensors before and after the blocks; without an output the embedding takes its place"""


class ValueType(IntEnum):
    """The type of a metadata value, with the number that the file stores."""

    UINT8 = 0
    INT8 = 1
    UINT16 = 2
    INT16 = 3
    UINT32 = 4
    INT32 = 5
    FLOAT32 = 6
    BOOL = 7
    STRING = 8
    ARRAY = 9
    UINT64 = 10
    INT64 = 11
    FLOAT64 = 12


SCALAR_FORMATS = {
    ValueType.UINT8: "<B", ValueType.INT8: "<b", ValueType.UINT16: "<H", ValueType.INT16: "<h",
    ValueType.UINT32: "<I", ValueType.INT32: "<i", ValueType.FLOAT32: "<f", ValueType.BOOL: "<?",
    ValueType.UINT64: "<Q", ValueType.INT64: "<q", ValueType.FLOAT64: "<d",
}  # fmt: skip
"""The format of a number in the file, in the spelling that `struct` and numpy share."""

Scalar = int | float | bool | str


@dataclass(frozen=True, slots=True)
class MetadataValue:
    """One metadata value; for an array, `type` is ARRAY, `value` a tuple, and `item_type` says of what."""

    type: ValueType
    value: Scalar | tuple[Scalar, ...]
    item_type: ValueType | None = None


Metadata = dict[str, MetadataValue]


def uint32(value: int) -> MetadataValue:
    """Return an unsigned 32-bit value.

    Raises MetadataError if it is not such an integer.
    """
    return MetadataValue(ValueType.UINT32, _within(value, 0, 2**32 - 1))


def int32(value: int) -> MetadataValue:
    """Return a signed 32-bit value.

    Raises MetadataError if it is not such an integer.
    """
    return MetadataValue(ValueType.INT32, _within(value, -(2**31), 2**31 - 1))


def float32(value: float) -> MetadataValue:
    """Return a 32-bit float; rounding happens when it is written.

    Raises MetadataError if it is not a number, or not finite.
    """
    if not is_number(value):
        raise MetadataError(f"{shortened(value)} is not a finite 32-bit number")
    return MetadataValue(ValueType.FLOAT32, float(value))


def _within(value: object, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, SupportsIndex) or not low <= (number := index(value)) <= high:
        raise MetadataError(f"{shortened(value)} is not a whole number from {low} to {high}")
    return number


def shortened(value: object) -> str:
    """Return a value for a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def boolean(value: bool) -> MetadataValue:
    """Return a boolean value."""
    return MetadataValue(ValueType.BOOL, bool(value))


def string(value: str) -> MetadataValue:
    """Return a string value, stored as UTF-8."""
    return MetadataValue(ValueType.STRING, value)


def array(item_type: ValueType, values: Iterable[Scalar]) -> MetadataValue:
    """Return an array whose items all have `item_type`."""
    return MetadataValue(ValueType.ARRAY, tuple(values), item_type)


def items(metadata: Metadata, key: str) -> tuple[Scalar, ...]:
    """Return the items of an array, nothing if there is none."""
    entry = metadata.get(key)
    return entry.value if entry is not None and isinstance(entry.value, tuple) else ()


def aligned(offset: int, alignment: int) -> int:
    """Return the first multiple of an alignment that is not below an offset."""
    return -(-offset // alignment) * alignment


def is_number(value: object) -> bool:
    """Tell whether a value is a number that a 32-bit float can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= MAX_NUMBER  # False for NaN, and exact for integers of any size


@dataclass(frozen=True)
class ModelKeys:
    """The metadata of a model, by keys with and without the architecture's name."""

    metadata: Metadata

    @property
    def architecture(self) -> str:
        """Return `general.architecture`, or nothing."""
        return self.text("general.architecture") or ""

    def text(self, key: str) -> str | None:
        """Return the text under a key, None if there is none."""
        entry = self.metadata.get(key)
        return entry.value if entry is not None and isinstance(entry.value, str) else None

    def number(self, key: str) -> int | None:
        """Return the integer under a whole key, None if there is none."""
        entry = self.metadata.get(key)
        value = None if entry is None else entry.value
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def integer(self, suffix: str) -> int | None:
        """Return the integer under a key of the architecture, None if there is none."""
        return self.number(f"{self.architecture}.{suffix}")

    def count(self, suffix: str, default: int = 0) -> int:
        """Return the integer under a key of the architecture, `default` if there is none or it is negative."""
        value = self.integer(suffix)
        return default if value is None or value < 0 else value

    def each(self, suffix: str) -> tuple[int, ...] | None:
        """Return the integers of an array under a key of the architecture, None if there is none."""
        entry = self.metadata.get(f"{self.architecture}.{suffix}")
        if entry is None or not isinstance(entry.value, tuple):
            return None
        return tuple(value for value in entry.value if isinstance(value, int))

    def per_layer(self, suffix: str, n_layer: int) -> tuple[int, ...] | None:
        """Return a value for each layer, be it stored once or as an array; None if it is not stored for all."""
        values = self.each(suffix)
        if values is not None:
            return values[:n_layer] if len(values) >= n_layer else None
        value = self.integer(suffix)
        return None if value is None else (value,) * n_layer
