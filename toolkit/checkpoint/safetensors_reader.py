"""Read safetensors files through a memory map; nothing in their headers is used before it is checked.

By hand, because the safetensors library gives copies instead of views of the file, no bfloat16 or FP8 as numpy arrays, and
errors that do not name file and tensor.

Format: 8 bytes little-endian header length, a JSON header {name: {dtype, shape, data_offsets}}, then the data.
"""

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy

from toolkit.checkpoint.tensor import StoredTensor
from toolkit.errors import CheckpointError
from toolkit.gguf.rows import Bytes
from toolkit.json_files import refuse_lfs_pointer
from toolkit.machine.mapped_files import map_file

ITEM_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64,
    "F16": 16, "BF16": 16, "F32": 32, "F64": 64, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F4": 4,
}  # fmt: skip
MAX_HEADER_BYTES = 100_000_000


def read_safetensors(path: Path) -> dict[str, StoredTensor]:
    """Return the tensors of one file, in the order of its header.

    Raises CheckpointError if the file is truncated, not a safetensors file, or its header does not describe it.
    """
    header, data = _header(path)
    header.pop("__metadata__", None)
    tensors = {name: _tensor(path, name, entry, data) for name, entry in header.items()}
    _refuse_overlaps(path, header)
    return tensors


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata in the header of one file: texts by name.

    Raises CheckpointError as `read_safetensors` does.
    """
    metadata = _header(path)[0].get("__metadata__")
    entries = metadata.items() if isinstance(metadata, dict) else ()
    return {name: text for name, text in entries if isinstance(text, str)}


def _header(path: Path) -> tuple[dict[str, Any], Bytes]:
    """Return the header of a file, and the bytes after it."""
    mapped = _map(path)
    header_bytes = int.from_bytes(mapped[:8].tobytes(), "little")
    available = len(mapped) - 8
    if header_bytes > min(available, MAX_HEADER_BYTES):
        raise CheckpointError(
            f"{path.name}: its header claims {header_bytes:,} bytes but {available:,} follow; "
            "the file is truncated or not a safetensors file: download it again"
        )
    return _parse_header(path, mapped[8 : 8 + header_bytes].tobytes()), mapped[8 + header_bytes :]


def _map(path: Path) -> Bytes:
    refuse_lfs_pointer(path)
    if path.stat().st_size < 8:
        raise CheckpointError(f"{path.name}: only {path.stat().st_size} bytes, too short for a safetensors header")
    return numpy.frombuffer(map_file(path), dtype=numpy.uint8)


def _parse_header(path: Path, text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text, object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path.name}: its header is not the JSON of a safetensors file ({error})") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path.name}: its header is not a JSON object")
    return header


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in pairs:
        if name in result:
            raise ValueError(f"{name!r} is there twice")
        result[name] = value
    return result


def _tensor(path: Path, name: str, entry: Any, data: Bytes) -> StoredTensor:
    dtype, shape, start, stop = _entry(path, name, entry)
    if dtype not in ITEM_BITS:
        raise CheckpointError(f"{path.name}: {name} has the dtype {dtype!r}; known: {', '.join(ITEM_BITS)}")
    needed = (math.prod(shape) * ITEM_BITS[dtype] + 7) // 8
    if stop - start != needed:
        raise CheckpointError(
            f"{path.name}: {name} takes {needed:,} bytes as {dtype} {list(shape)}, but its offsets span {stop - start:,}"
        )
    if stop > len(data):
        raise CheckpointError(
            f"{path.name}: truncated, {name} ends {stop - len(data):,} bytes beyond the file: download it again"
        )
    return StoredTensor(name, dtype, shape, data[start:stop], path)


def _entry(path: Path, name: str, entry: Any) -> tuple[str, tuple[int, ...], int, int]:
    try:
        dtype, shape, (start, stop) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path.name}: the header entry of {name} lacks dtype, shape or data_offsets") from error
    numbers = (*shape, start, stop)
    if not isinstance(dtype, str) or not all(type(number) is int and number >= 0 for number in numbers) or stop < start:
        raise CheckpointError(f"{path.name}: the header entry of {name} is malformed: {str(entry)[:120]}")
    return dtype, shape, start, stop


def _refuse_overlaps(path: Path, header: dict[str, Any]) -> None:
    spans = sorted((*entry["data_offsets"], name) for name, entry in header.items())
    for (_, stop, name), (start, end, following) in pairwise(spans):
        if start < stop and end > start:
            raise CheckpointError(f"{path.name}: the data of {name} and {following} overlap; the file is damaged")
