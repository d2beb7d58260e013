"""torchao: `X._weight_qdata`, `X._weight_scale` and so on, which the metadata of the safetensors header describes.

w = (qdata - zero_point) * scale, in float32; the shapes of both say which block of the weight shares a scale. Source:
torchao/prototype/safetensors and the tensor classes of torchao/quantization in pytorch/ao 0.18.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy
from numpy.typing import NDArray

from toolkit.checkpoint.safetensors_reader import read_metadata
from toolkit.errors import CheckpointError
from toolkit.quantized_sources.layouts import ScaledWeights, Tiles, spread
from toolkit.quantized_sources.numbers import FLOAT8_DTYPES, Codes, Numbers
from toolkit.quantized_sources.quantized_format import (
    FLOATS,
    DecodedTensors,
    DequantizedTensor,
    Grid,
    Parts,
    QuantizedFormat,
)

KINDS = {"Float8Tensor": FLOAT8_DTYPES, "IntxUnpackedToInt8Tensor": ("I8",), "Int8Tensor": ("I8",)}
"""tensor class of torchao -> the types of its qdata"""
PLAIN = ("Tensor", "torch.Tensor")
_UNREAD = "act_pre_scale"
"""a factor that activations are multiplied by; the weights are wrong without it"""


@dataclass(frozen=True)
class _Steps:
    """Signed integers, and the scales of groups within rows."""

    numbers: Numbers
    scales: Numbers
    zeros: Numbers | None
    bits: int

    def grid(self) -> Grid | None:
        """Return the integers; None where a block has several rows, or zero points are not integers."""
        rows, columns = self.numbers.shape
        if self.scales.shape[0] != rows or (self.zeros is not None and self.zeros.dtype != "I8"):
            return None
        return Grid(
            self.bits,
            columns // self.scales.shape[1],
            self._codes,
            scales=lambda start, stop: self.scales.floats(slice(start, stop)),
            zeros=self._zeros,
        )

    def _codes(self, start: int, stop: int) -> Codes:
        codes = self.numbers.bits[start:stop].astype(numpy.int16) + self._half
        if codes.min() < 0 or codes.max() >= 2 * self._half:
            raise CheckpointError(f"{self.numbers.name} holds numbers of more than {self.bits} bits; it is damaged")
        return codes.astype(numpy.uint8)

    def _zeros(self, start: int, stop: int) -> NDArray[numpy.int16]:
        if self.zeros is None:
            return numpy.full((stop - start, self.scales.shape[1]), self._half, numpy.int16)
        return self.zeros.bits[start:stop].astype(numpy.int16) + numpy.int16(self._half)

    @property
    def _half(self) -> int:
        return 1 << self.bits - 1


def decode_torchao(parts: Parts) -> DecodedTensors:
    """Return the tensors of a torchao checkpoint.

    Raises CheckpointError for a tensor class that is not read, a description that is missing or does not fit, and an
    incomplete set.
    """
    described = _descriptions(parts)
    packed = {name: description for name, description in described.items() if description.get("_type") not in PLAIN}
    return DecodedTensors({name: _decode_tensor(parts, name, description) for name, description in packed.items()})


def _descriptions(parts: Parts) -> dict[str, Mapping[str, Any]]:
    """Return what the headers say of each tensor."""
    descriptions: dict[str, Mapping[str, Any]] = {}
    for file in sorted({tensor.file for tensor in parts.tensors.values() if tensor.file.suffix == ".safetensors"}):
        metadata = read_metadata(file)
        for name in _parsed(file.name, "tensor_names", metadata, list):
            descriptions[str(name)] = _parsed(file.name, str(name), metadata, dict)
    return descriptions


def _parsed(file: str, key: str, metadata: Mapping[str, str], kind: type) -> Any:
    try:
        value = json.loads(metadata.get(key, ""))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{file}: the metadata of its header has no {key[:80]!r}, by which torchao describes tensors"
        ) from error
    if not isinstance(value, kind):
        raise CheckpointError(f"{file}: {key[:80]!r} in the metadata of its header is {str(value)[:60]!r}")
    return value


def _decode_tensor(parts: Parts, name: str, described: Mapping[str, Any]) -> DequantizedTensor:
    kind, (module, _, parameter) = str(described.get("_type")), name.rpartition(".")
    if kind not in KINDS:
        raise parts.declaration.refusal(f"of class {kind}", module)
    prefix = f"{module}._{parameter}_"
    names = tuple(stored for stored in parts.tensors if stored.startswith(prefix))
    if f"{prefix}{_UNREAD}" in names:
        raise parts.declaration.refusal(f"with {_UNREAD}", module)
    codes = _require(parts, f"{prefix}qdata", name, KINDS[kind])
    scales = _require(parts, f"{prefix}scale", name, FLOATS)
    zeros = _require(parts, f"{prefix}zero_point", name, ("I8", *FLOATS)) if f"{prefix}zero_point" in names else None
    matrix = ScaledWeights(codes, _over(codes, scales), None if zeros is None else _over(codes, zeros))
    tensor = parts.tensor(name, codes.shape, matrix.values, names)
    if codes.dtype != "I8" or len(codes.shape) != 2 or scales.shape == ():
        return tensor
    return replace(tensor, grid=_Steps(codes, scales, zeros, _bits(parts, name, described)).grid())


def _require(parts: Parts, name: str, weight: str, dtypes: tuple[str, ...]) -> Numbers:
    part = parts.require(name, weight)
    if part.dtype not in dtypes:
        raise CheckpointError(f"{name} is {part.dtype}, but torchao stores {' or '.join(dtypes)} there")
    return part


def _over(codes: Numbers, numbers: Numbers) -> Tiles:
    """Return scales or zero points as tiles of a weight.

    Raises CheckpointError if the weight's shape is not a multiple of theirs.
    """
    shape, blocks = codes.shape, numbers.shape
    whole = len(shape) == len(blocks) >= 2 and not any(
        length % count for length, count in zip(shape, blocks, strict=True)
    )
    tile = (shape[-2] // blocks[-2], shape[-1] // blocks[-1]) if whole else None
    tiles = spread(numbers, shape, tile) if len(shape) >= 2 else None
    if tiles is None or (tile is None and numbers.bits.size != 1):
        raise CheckpointError(
            f"{numbers.name} has shape {list(blocks)}, of which {codes.name} {list(shape)} is not a multiple"
        )
    return tiles


def _bits(parts: Parts, name: str, described: Mapping[str, Any]) -> int:
    if described.get("_type") == "Int8Tensor":
        return 8
    try:
        bits = int(described["_data"]["target_dtype"]["_data"].removeprefix("int"))
    except (KeyError, TypeError, ValueError, AttributeError):
        bits = 0
    if not 1 <= bits <= 8:
        raise parts.declaration.refusal("without a target_dtype of 1 to 8 bits", name)
    return bits


TORCHAO = QuantizedFormat(names=("torchao",), decode=decode_torchao, library="torchao", endings=("_qdata",))
