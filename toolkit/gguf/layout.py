"""Where everything lies in a GGUF file, known to the byte before anything is written."""

import math
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from toolkit.errors import MetadataError, TensorError
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
    aligned,
    shortened,
)
from toolkit.gguf.ggml_types import TensorType

MAX_WEIGHTS = 1 << 56
"""of a tensor: with as many tensors as a model has, every offset still keeps within 64 bits"""


class Placed(Protocol):
    """A tensor that can be given a place: all that the header needs to know of it."""

    @property
    def name(self) -> str:
        """Return the GGUF name."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape, row length last."""
        ...

    @property
    def type(self) -> TensorType:
        """Return the stored type."""
        ...


@dataclass(frozen=True)
class ShapedTensor:
    """A tensor without its data; shape with the row length last."""

    name: str
    shape: tuple[int, ...]
    type: TensorType


@dataclass(frozen=True)
class Layout:
    """The header's bytes, the file offset of each tensor's data, and the length of the whole file."""

    header: bytes
    offsets: tuple[int, ...]
    file_bytes: int


def lay_out(metadata: Metadata, tensors: Sequence[Placed]) -> Layout:
    """Return the layout of a file with this metadata and these tensors, in this order.

    Raises TensorError if a name is too long for GGUF or a duplicate, MetadataError for a value that is not of its type.
    """
    _check_names(tensors)
    alignment = alignment_of(metadata)
    relative, end = [], 0
    for tensor in tensors:
        relative.append(end)
        end = aligned(end + tensor.type.tensor_bytes(tensor.shape), alignment)
    parts = [MAGIC, struct.pack("<IQQ", VERSION, len(tensors), len(metadata))]
    parts += [_pair(key, value) for key, value in metadata.items()]
    parts += [_tensor_info(tensor, offset) for tensor, offset in zip(tensors, relative, strict=True)]
    header = b"".join(parts)
    start = aligned(len(header), alignment)
    return Layout(header.ljust(start, b"\0"), tuple(start + offset for offset in relative), start + end)


def bits_per_weight(tensors: Iterable[Placed]) -> float:
    """Return the bits of tensor data per weight, 0 where there are no tensors."""
    sizes = [(tensor.type.tensor_bytes(tensor.shape), math.prod(tensor.shape)) for tensor in tensors]
    return 8 * sum(size for size, _ in sizes) / max(1, sum(weights for _, weights in sizes))


def info_bytes(tensor: Placed) -> int:
    """Return the bytes that the header takes for a tensor."""
    return len(_tensor_info(tensor, 0))


def alignment_of(metadata: Metadata) -> int:
    """Return the multiple of bytes at which the data of every tensor begins."""
    value = metadata.get("general.alignment")
    return int(value.value) if value is not None and isinstance(value.value, int) else DEFAULT_ALIGNMENT


def _pair(key: str, value: MetadataValue) -> bytes:
    try:
        return _string(key) + struct.pack("<I", value.type) + encode(value)
    except (struct.error, OverflowError, UnicodeEncodeError) as error:
        kind = value.type if value.item_type is None else value.item_type
        raise MetadataError(f"{key} would be {shortened(value.value)}, which {kind.name} cannot hold") from error


def encode(value: MetadataValue) -> bytes:
    """Return the bytes of a metadata value, without its type."""
    if isinstance(value.value, tuple):
        if value.item_type is None:
            raise ValueError("an array without the type of its items")
        return struct.pack("<IQ", value.item_type, len(value.value)) + _items(value.item_type, value.value)
    return _encoder(value.type)(value.value)


def _items(type_: ValueType, values: tuple[Scalar, ...]) -> bytes:
    if type_ is ValueType.STRING:
        return _strings(values)
    encode_item = _encoder(type_)
    return b"".join([encode_item(item) for item in values])


@lru_cache(maxsize=8)
def _strings(values: tuple[Scalar, ...]) -> bytes:
    """Return an array of strings; kept, because every profile of a model repeats its vocabulary."""
    return b"".join([_string(value) for value in values])


def _encoder(type_: ValueType) -> Callable[[Scalar], bytes]:
    if type_ is ValueType.STRING:
        return _string
    return struct.Struct(SCALAR_FORMATS[type_]).pack


def _string(text: Scalar) -> bytes:
    data = str(text).encode("utf-8", "surrogateescape")
    return struct.pack("<Q", len(data)) + data


def _tensor_info(tensor: Placed, offset: int) -> bytes:
    dimensions = tuple(reversed(tensor.shape))
    lengths = struct.pack(f"<I{len(dimensions)}Q", len(dimensions), *dimensions)
    return _string(tensor.name) + lengths + struct.pack("<IQ", tensor.type.ggml_id, offset)


def _check_names(tensors: Sequence[Placed]) -> None:
    seen: set[str] = set()
    for tensor in tensors:
        if tensor.name in seen:
            raise TensorError(f"{tensor.name} would be a duplicate in the file")
        if len(tensor.name.encode()) > MAX_NAME_BYTES:
            raise TensorError(f"{tensor.name!r} is longer than the {MAX_NAME_BYTES} bytes that GGUF allows")
        if not 1 <= len(tensor.shape) <= MAX_DIMENSIONS:
            raise TensorError(f"{tensor.name} has {len(tensor.shape)} dimensions; GGUF allows 1 to {MAX_DIMENSIONS}")
        if math.prod(tensor.shape) > MAX_WEIGHTS:
            raise TensorError(
                f"{tensor.name} would have the shape {list(tensor.shape)}, more weights than fit any disk"
            )
        seen.add(tensor.name)
