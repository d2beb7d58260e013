"""A GGUF file with something changed, written again from what our reader gives."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy

from toolkit.gguf.format import Metadata
from toolkit.gguf.ggml_types import TensorType
from toolkit.gguf.layout import lay_out
from toolkit.gguf.reader import read_gguf
from toolkit.gguf.rows import row_count
from toolkit.llama.quantizer import from_float32, to_float32

Change = Callable[[numpy.ndarray], numpy.ndarray]


@dataclass(frozen=True)
class _Tensor:
    name: str
    shape: tuple[int, ...]
    type: TensorType
    data: bytes


def altered(
    path: Path,
    target: Path,
    metadata: Metadata | None = None,
    without: tuple[str, ...] = (),
    without_keys: tuple[str, ...] = (),
    copies: dict[str, str] | None = None,
    weights: dict[str, Change] | None = None,
    bytes_of: dict[str, Change] | None = None,
) -> Path:
    """Write `target`: the file with keys replaced, tensors left out or copied, weights (floats) or rows (bytes) changed.

    Changes get arrays of the tensor's shape; rows of bytes have all leading axes flattened.
    """
    file = read_gguf(path)
    tensors = []
    copied = {name: file.tensors[origin] for name, origin in (copies or {}).items()}
    for name, rows in (file.tensors | copied).items():
        if name in without:
            continue
        stored = rows.read_rows(0, row_count(rows.shape))
        if weights and name in weights:
            values = weights[name](to_float32(stored, rows.type).reshape(rows.shape)).astype(numpy.float32)
            flat = numpy.ascontiguousarray(values).reshape(-1, values.shape[-1])
            stored = from_float32(flat, rows.type)
        if bytes_of and name in bytes_of:
            stored = bytes_of[name](stored)
        tensors.append(_Tensor(name, rows.shape, rows.type, numpy.ascontiguousarray(stored).tobytes()))
    kept = {key: value for key, value in file.metadata.items() if key not in without_keys}
    layout = lay_out(kept | (metadata or {}), tensors)
    content = bytearray(layout.file_bytes)
    content[: len(layout.header)] = layout.header
    for tensor, offset in zip(tensors, layout.offsets, strict=True):
        content[offset : offset + len(tensor.data)] = tensor.data
    target.write_bytes(content)
    return target
