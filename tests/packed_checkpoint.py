"""Checkpoints of a few packed tensors, for tests of quantized formats."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy
from editable_checkpoint import write_safetensors

from toolkit.checkpoint.checkpoint import Checkpoint, open_checkpoint
from toolkit.checkpoint.tensor import CheckpointTensor
from toolkit.gguf.rows import row_count
from toolkit.quantized_sources.registry import decode_checkpoint

Tensors = Mapping[str, tuple[str, numpy.ndarray]]
NAMES = {
    "float16": "F16",
    "float32": "F32",
    "int32": "I32",
    "int64": "I64",
    "int8": "I8",
    "uint8": "U8",
    "uint32": "U32",
}


def random(seed: int = 0) -> numpy.random.Generator:
    return numpy.random.default_rng(seed)


def named(**tensors: numpy.ndarray) -> dict[str, tuple[str, numpy.ndarray]]:
    """Return tensors of the module `m`; the double underscore of `weight__absmax` is a dot."""
    return {f"m.{name.replace('__', '.')}": (NAMES[value.dtype.name], value) for name, value in tensors.items()}


def write_packed(directory: Path, tensors: Tensors, quantization: Mapping[str, Any] | None) -> Path:
    config = {} if quantization is None else {"quantization_config": quantization}
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    write_safetensors(directory / "model.safetensors", tensors)
    return directory


def open_packed(
    directory: Path, tensors: Tensors, quantization: Mapping[str, Any] | None
) -> tuple[Checkpoint, tuple[str, ...]]:
    return decode_checkpoint(open_checkpoint(write_packed(directory, tensors, quantization)))


def values_of(tensor: CheckpointTensor, step: int = 5) -> numpy.ndarray:
    """Return float32 of the tensor's shape, read a few rows at a time."""
    rows, count = tensor.rows(), row_count(tensor.shape)
    read = [rows.read_rows(start, min(start + step, count)) for start in range(0, count, step)]
    return numpy.concatenate(read).view("<f4").reshape(tensor.shape)


def packed_bits(codes: numpy.ndarray, bits: int) -> numpy.ndarray:
    """Return uint32 words for codes [rows, n]: each row one long number, the first code lowest."""
    words = []
    for row in codes.tolist():
        number = sum(code << (bits * index) for index, code in enumerate(row))
        words.append(numpy.frombuffer(number.to_bytes(len(row) * bits // 8, "little"), "<u4"))
    return numpy.stack(words)


def e2m1(codes: numpy.ndarray) -> numpy.ndarray:
    """Return the float32 values of 4-bit floats: a sign, two bits of exponent whose bias is 1, one bit of fraction."""
    exponent, fraction = (codes >> 1 & 3).astype(int), (codes & 1) / 2
    magnitude = numpy.where(exponent == 0, fraction, (1 + fraction) * 2.0 ** (exponent - 1))
    return numpy.where(codes >> 3, -magnitude, magnitude).astype(numpy.float32)
