"""Parse the header of a GGUF file; no number in it is trusted.

Every count, length and product is checked in Python's unbounded integers against the bytes that are there before it is
used. Format: docs/gguf.md and ggml/src/gguf.cpp of llama.cpp.
"""

import mmap
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy

from toolkit.errors import GgufError
from toolkit.gguf.format import (
    DEFAULT_ALIGNMENT,
    MAGIC,
    MAX_DIMENSIONS,
    MAX_NAME_BYTES,
    SCALAR_FORMATS,
    VERSION,
    Metadata,
    MetadataValue,
    Scalar,
    ValueType,
)
from toolkit.gguf.ggml_types import TYPES_BY_ID, TensorType
from toolkit.units import format_count, format_size

MAX_HEADER_BYTES = 256 << 20
"""Ten times the largest header in use (a vocabulary of 262,144 tokens with its merges and template: 16 MiB)."""
MAX_ARRAY_ITEMS = 1 << 22
"""Eight times the longest array in use (514,906 merges)."""
OLDEST_VERSION = 2
_MOST = {".block_count": 512, ".expert_count": 1024, ".nextn_predict_layers": 512}
"""llama.cpp has room for 512 blocks and 1,024 experts (LLAMA_MAX_LAYERS, LLAMA_MAX_EXPERTS in src/llama-hparams.h)"""

_UINT32, _UINT64 = struct.Struct("<I"), struct.Struct("<Q")
_SMALLEST_PAIR_BYTES = 8 + 1 + 4 + 1
_SMALLEST_TENSOR_BYTES = 8 + 1 + 4 + 4 + 8
_OTHER_TYPES = {
    4: "Q4_2, which llama.cpp dropped", 5: "Q4_3, which llama.cpp dropped",
    9: "Q8_1, which no file should hold", 15: "Q8_K, which no file should hold",
    31: "Q4_0_4_4, which llama.cpp dropped: take the Q4_0 file",
    32: "Q4_0_4_8, which llama.cpp dropped: take the Q4_0 file",
    33: "Q4_0_8_8, which llama.cpp dropped: take the Q4_0 file",
    36: "IQ4_NL_4_4, which llama.cpp dropped: take the IQ4_NL file",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """What the header says of a tensor; `shape` has the row length last."""

    name: str
    shape: tuple[int, ...]
    type: TensorType
    offset: int
    """from the start of tensor data"""

    @property
    def end(self) -> int:
        """Return where the tensor's bytes end, from the start of tensor data."""
        return self.offset + self.type.tensor_bytes(self.shape)


@dataclass(frozen=True)
class Header:
    """All that stands before tensor data."""

    version: int
    alignment: int
    metadata: Metadata
    tensors: tuple[TensorInfo, ...]
    n_bytes: int
    """without the padding up to tensor data"""


def read_header(path: Path, view: mmap.mmap) -> Header:
    """Parse the header of the file that `view` maps and that is known to begin with GGUF's magic.

    Raises GgufError if anything in it is cut off, out of bounds or unknown.
    """
    cursor = _Cursor(path, view)
    version = _read_version(cursor)
    n_tensors = cursor.integer(_UINT64, "the number of tensors")
    metadata = _read_metadata(cursor)
    alignment = _alignment(cursor, metadata)
    return Header(version, alignment, metadata, _read_tensors(cursor, n_tensors), cursor.position)


class _Cursor:
    """A position in the header that refuses to pass its end."""

    def __init__(self, path: Path, view: mmap.mmap) -> None:
        self.path = path
        self.view = view
        self.position = len(MAGIC)
        self.limit = min(len(view), MAX_HEADER_BYTES)

    def error(self, message: str) -> GgufError:
        """Return an error that names the file."""
        return GgufError(f"{self.path}: {message}")

    def too_long(self, n_bytes: int, start: int, what: str) -> GgufError:
        """Return the error for something that does not fit into the rest of the header."""
        needs = f"{what} at byte {format_count(start)} takes {format_count(n_bytes)} bytes"
        if self.limit < len(self.view):
            return self.error(f"{needs}, but no header is longer than {format_size(self.limit)}: damaged")
        return self.error(f"{needs}, but the file ends at byte {format_count(self.limit)}: cut off or damaged")

    def advance(self, n_bytes: int, what: str) -> int:
        """Step over `n_bytes` and return where they begin."""
        start = self.position
        if n_bytes > self.limit - start:
            raise self.too_long(n_bytes, start, what)
        self.position = start + n_bytes
        return start

    def integer(self, layout: struct.Struct, what: str) -> int:
        """Return an unsigned integer."""
        number: int = layout.unpack_from(self.view, self.advance(layout.size, what))[0]
        return number

    def text(self, what: str) -> str:
        """Return a string that must be UTF-8 and not empty."""
        n_bytes = self.integer(_UINT64, f"the length of {what}")
        start = self.advance(n_bytes, what)
        try:
            text = self.view[start : start + n_bytes].decode()
        except UnicodeDecodeError:
            raise self.error(f"{what} at byte {format_count(start)} is not UTF-8: damaged") from None
        if not text or "\0" in text:
            raise self.error(f"{what} at byte {format_count(start)} is empty or holds a zero byte: damaged")
        return text

    def check_count(self, count: int, smallest_bytes: int, what: str) -> None:
        """Refuse a count that could not fit even if every item were as small as can be."""
        rest = self.limit - self.position
        if count * smallest_bytes > rest:
            raise self.error(
                f"claims {format_count(count)} {what}, more than {format_count(rest)} bytes can hold: cut off or damaged"
            )


def _read_version(cursor: _Cursor) -> int:
    version = cursor.integer(_UINT32, "the version")
    if OLDEST_VERSION <= version <= VERSION:
        return version
    if version and version & 0xFFFF == 0:
        raise cursor.error("big-endian, made for another kind of machine; take the little-endian file")
    raise cursor.error(
        f"GGUF version {version}; known are {OLDEST_VERSION} and {VERSION}: convert the checkpoint again"
    )


def _read_metadata(cursor: _Cursor) -> Metadata:
    count = cursor.integer(_UINT64, "the number of metadata keys")
    cursor.check_count(count, _SMALLEST_PAIR_BYTES, "metadata keys")
    metadata: Metadata = {}
    for index in range(count):
        key = cursor.text(f"metadata key {index}")
        if key in metadata:
            raise cursor.error(f"metadata key {key!r} is a duplicate: damaged")
        metadata[key] = _read_value(cursor, key)
        _check_length(cursor, key, metadata[key].value)
    return metadata


def _check_length(cursor: _Cursor, key: str, value: object) -> None:
    """Refuse an impossible number under a key that gives the length of tables in llama.cpp and of lists here."""
    most = next((most for end, most in _MOST.items() if key.endswith(end)), None)
    if most is not None and isinstance(value, int) and value > most:
        raise cursor.error(f"{key} is {format_count(value)}, but no model has more than {format_count(most)}: damaged")


def _read_value(cursor: _Cursor, key: str) -> MetadataValue:
    type_ = _read_type(cursor, key)
    if type_ is not ValueType.ARRAY:
        return MetadataValue(type_, _read_items(cursor, type_, 1, key)[0])
    item_type = _read_type(cursor, key)
    count = cursor.integer(_UINT64, f"the length of {key!r}")
    if item_type is ValueType.ARRAY:
        raise cursor.error(f"{key!r} is an array of arrays, which llama.cpp does not read either")
    if count > MAX_ARRAY_ITEMS:
        most = format_count(MAX_ARRAY_ITEMS)
        raise cursor.error(f"{key!r} claims {format_count(count)} items, at most {most} are read: damaged")
    if item_type is ValueType.STRING:
        cursor.check_count(count, _UINT64.size, f"strings in {key!r}")
    return MetadataValue(ValueType.ARRAY, tuple(_read_items(cursor, item_type, count, key)), item_type)


def _read_type(cursor: _Cursor, key: str) -> ValueType:
    number = cursor.integer(_UINT32, f"the type of {key!r}")
    try:
        return ValueType(number)
    except ValueError:
        raise cursor.error(f"{key!r} has value type {number}, which GGUF does not know: damaged") from None


def _read_items(cursor: _Cursor, type_: ValueType, count: int, key: str) -> Sequence[Scalar]:
    if type_ is ValueType.STRING:
        return _read_strings(cursor, count, key)
    # read as a byte, because files may hold other numbers than 1 for true
    dtype = numpy.dtype("<u1" if type_ is ValueType.BOOL else SCALAR_FORMATS[type_])
    start = cursor.advance(count * dtype.itemsize, f"the value of {key!r}")
    numbers = numpy.frombuffer(cursor.view, dtype, count, start)
    items: list[Scalar] = (numbers != 0 if type_ is ValueType.BOOL else numbers).tolist()
    return items


def _read_strings(cursor: _Cursor, count: int, key: str) -> list[str]:
    """Return strings; bytes that are not UTF-8 become lone surrogates, so that writing gives the same bytes again."""
    # Without the cursor's calls, because a vocabulary with its merges is most of a million strings.
    view, limit, position, unpack = cursor.view, cursor.limit, cursor.position, _UINT64.unpack_from
    texts = []
    for _ in range(count):
        start = position + 8
        if start > limit:
            raise cursor.too_long(8, position, f"the length of a string in {key!r}")
        position = start + unpack(view, position)[0]
        if position > limit:
            raise cursor.too_long(position - start, start, f"a string in {key!r}")
        texts.append(view[start:position].decode("utf-8", "surrogateescape"))
    cursor.position = position
    return texts


def _alignment(cursor: _Cursor, metadata: Metadata) -> int:
    entry = metadata.get("general.alignment")
    if entry is None:
        return DEFAULT_ALIGNMENT
    value = entry.value
    if entry.type is not ValueType.UINT32 or not isinstance(value, int) or value.bit_count() != 1:
        raise cursor.error(f"general.alignment is {value!r} ({entry.type.name}); it must be a UINT32 power of two")
    return value


def _read_tensors(cursor: _Cursor, count: int) -> tuple[TensorInfo, ...]:
    cursor.check_count(count, _SMALLEST_TENSOR_BYTES, "tensors")
    tensors: dict[str, TensorInfo] = {}
    for index in range(count):
        tensor = _read_tensor(cursor, index)
        if tensor.name in tensors:
            raise cursor.error(f"tensor {tensor.name!r} is a duplicate: damaged")
        tensors[tensor.name] = tensor
    return tuple(tensors.values())


def _read_tensor(cursor: _Cursor, index: int) -> TensorInfo:
    name = cursor.text(f"the name of tensor {index}")
    if len(name.encode()) > MAX_NAME_BYTES:
        raise cursor.error(f"the name of tensor {index} is longer than {MAX_NAME_BYTES} bytes: damaged")
    shape = _read_shape(cursor, name)
    number = cursor.integer(_UINT32, f"the type of tensor {name!r}")
    type_ = TYPES_BY_ID.get(number)
    if type_ is None:
        meaning = _OTHER_TYPES.get(number, "which is unknown: damaged, or newer than this toolkit")
        raise cursor.error(f"tensor {name!r} has type {number}, {meaning}")
    if not type_.holds_rows_of(shape[-1]):
        blocks = f"not whole {type_.name} blocks of {type_.block_length}"
        raise cursor.error(f"tensor {name!r} has rows of {format_count(shape[-1])} weights, {blocks}: damaged")
    return TensorInfo(name, shape, type_, cursor.integer(_UINT64, f"the offset of tensor {name!r}"))


def _read_shape(cursor: _Cursor, name: str) -> tuple[int, ...]:
    """Return the shape, row length last; a scalar has one row of one."""
    count = cursor.integer(_UINT32, f"the dimensions of tensor {name!r}")
    if count > MAX_DIMENSIONS:
        claim = f"tensor {name!r} has {format_count(count)} dimensions"
        raise cursor.error(f"{claim}, GGUF allows {MAX_DIMENSIONS}: damaged")
    shape = tuple(cursor.integer(_UINT64, f"the shape of tensor {name!r}") for _ in range(count))[::-1] or (1,)
    if 0 in shape:
        raise cursor.error(f"tensor {name!r} is empty: its shape is {list(shape)}")
    return shape
