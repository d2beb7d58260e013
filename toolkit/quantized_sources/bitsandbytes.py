"""bitsandbytes: NF4 and FP4 with absmax scales (themselves quantized: double quantization), and int8 by rows.

4 bits: two codes a byte, the first in the high nibble, over the flattened weight; w = quant_map[q] * absmax[i / blocksize].
Double quantization: absmax[b] = nested_quant_map[code[b]] * nested_absmax[b / nested_blocksize] + nested_offset.
int8: w[o, i] = q[o, i] * SCB[o] / 127. All in float32: the dtype that the state names is one to round to, not one to keep.
"""

import json
from dataclasses import dataclass
from typing import Any

import numpy

from toolkit.errors import CheckpointError
from toolkit.quantized_sources.numbers import Floats, Numbers, unpack_nibbles
from toolkit.quantized_sources.quantized_format import DecodedTensors, DequantizedTensor, Parts, QuantizedFormat

INT8_FACTOR = numpy.float32(7.874015718698502e-3)
"""1 / 127, the constant of bitsandbytes"""
ROW_FORMAT = 0
_STATE = ".weight.quant_state.bitsandbytes__"
_COMPANIONS = (".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map")
_KINDS = ("nf4", "fp4")


@dataclass(frozen=True)
class _Nested:
    """How scales are quantized."""

    levels: Floats
    absmax: Numbers
    blocksize: int
    offset: numpy.float32


@dataclass(frozen=True)
class _Absmax:
    """The scale of every block, plain or quantized once more."""

    stored: Numbers
    nested: _Nested | None

    def floats(self, first: int, last: int) -> Floats:
        """Return the scales of blocks first to last."""
        if self.nested is None:
            return self.stored.floats(slice(first, last))
        outer = self.nested.absmax.floats(numpy.arange(first, last) // self.nested.blocksize)
        return numpy.take(self.nested.levels, self.stored.bits[first:last]) * outer + self.nested.offset


@dataclass(frozen=True)
class _FourBitMatrix:
    codes: numpy.ndarray[Any, numpy.dtype[numpy.uint8]]
    """[bytes]"""
    levels: Floats
    absmax: _Absmax
    blocksize: int
    row_length: int

    def values(self, start: int, stop: int) -> Floats:
        """Return float32 [stop - start, row length]."""
        first, last = start * self.row_length, stop * self.row_length
        codes = unpack_nibbles(self.codes[first // 2 : -(-last // 2)], high_first=True)[first % 2 :][: last - first]
        block = first // self.blocksize
        scales = self.absmax.floats(block, -(-last // self.blocksize))
        weights = self.levels[codes] * scales[numpy.arange(first, last) // self.blocksize - block]
        return weights.reshape(stop - start, self.row_length)


@dataclass(frozen=True)
class _Int8Matrix:
    codes: Numbers
    row_scales: Numbers

    def values(self, start: int, stop: int) -> Floats:
        """Return float32 [stop - start, row length]."""
        scales = self.row_scales.reshaped(-1, 1).floats(slice(start, stop))
        return self.codes.floats(slice(start, stop)) * scales * INT8_FACTOR


def decode_bitsandbytes(parts: Parts) -> DecodedTensors:
    """Return the tensors of a bitsandbytes checkpoint.

    Raises CheckpointError for an incomplete set or a state that contradicts it.
    """
    decoded: dict[str, DequantizedTensor] = {}
    dropped: dict[str, str] = {}
    for module in parts.modules(".weight"):
        weight = f"{module}.weight"
        dtype = parts.tensors[weight].dtype
        kind = next((kind for kind in _KINDS if f"{module}{_STATE}{kind}" in parts.tensors), None)
        if kind is not None:
            decoded[weight] = _decode_4bit(parts, module, kind)
        elif dtype == "I8":
            decoded[weight] = _decode_int8(parts, module)
            dropped |= _format_tensor(parts, module)
        elif dtype == "U8":
            parts.require(f"{module}{_STATE}nf4", weight)
    return DecodedTensors(decoded, dropped)


def _decode_4bit(parts: Parts, module: str, kind: str) -> DequantizedTensor:
    weight = f"{module}.weight"
    state = _state(parts, f"{module}{_STATE}{kind}")
    shape, blocksize = tuple(state["shape"]), state["blocksize"]
    codes = parts.require(weight, weight)
    levels = parts.require_shape(parts.require(f"{weight}.quant_map", weight), (16,)).floats()
    count = shape[0] * shape[1]
    packed = codes.mapped(lambda bits: numpy.ascontiguousarray(bits).reshape(-1).view(numpy.uint8)).bits
    if packed.size != -(-count // 2):
        raise CheckpointError(
            f"{weight} holds {packed.size:,} bytes of 4-bit codes, but its shape {list(shape)} needs half of {count:,}"
        )
    absmax = parts.require_shape(parts.require(f"{weight}.absmax", weight), (-(-count // blocksize),))
    matrix = _FourBitMatrix(packed, levels, _Absmax(absmax, _nested(parts, weight, state, absmax)), blocksize, shape[1])
    names = (weight, *(weight + suffix for suffix in _COMPANIONS), f"{module}{_STATE}{kind}")
    return parts.tensor(weight, shape, matrix.values, names)


def _nested(parts: Parts, weight: str, state: dict[str, Any], absmax: Numbers) -> _Nested | None:
    if absmax.dtype != "U8":
        return None
    levels = parts.require_shape(parts.require(f"{weight}.nested_quant_map", weight), (256,)).floats()
    outer = parts.require(f"{weight}.nested_absmax", weight)
    size, offset = state.get("nested_blocksize"), state.get("nested_offset")
    if not isinstance(size, int) or size < 1 or not isinstance(offset, float | int):
        raise CheckpointError(
            f"{weight}: its quant_state lacks nested_blocksize or nested_offset, though absmax is quantized"
        )
    parts.require_shape(outer, (-(-len(absmax.bits) // size),))
    return _Nested(levels, outer, size, numpy.float32(offset))


def _state(parts: Parts, name: str) -> dict[str, Any]:
    try:
        state = json.loads(parts.require(name, name).bits.tobytes())
        shape, blocksize = state["shape"], state["blocksize"]
        valid = len(shape) == 2 and all(type(number) is int and number > 0 for number in (*shape, blocksize))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{name} is not the JSON of a quantization state ({type(error).__name__})") from error
    if not valid:
        raise CheckpointError(
            f"{name} names the shape {str(shape)[:60]} and blocksize {str(blocksize)[:20]}, expected two axes"
        )
    return dict(state)


def _decode_int8(parts: Parts, module: str) -> DequantizedTensor:
    weight = f"{module}.weight"
    codes = parts.require(weight, weight)
    scales = parts.require(f"{module}.SCB", weight)
    if len(codes.shape) != 2 or scales.bits.size != codes.shape[0]:
        raise CheckpointError(
            f"{scales.name} has shape {list(scales.shape)}, but {weight} {list(codes.shape)} needs one for each row"
        )
    return parts.tensor(weight, codes.shape, _Int8Matrix(codes, scales).values, (weight, scales.name))


def _format_tensor(parts: Parts, module: str) -> dict[str, str]:
    name = f"{module}.weight_format"
    format_ = parts.get(name)
    if format_ is None:
        return {}
    if int(format_.bits.reshape(-1)[0]) != ROW_FORMAT:
        raise parts.declaration.refusal(
            f"with int8 weights in format {format_.bits.reshape(-1)[0]} instead of rows", module
        )
    return {name: "the layout of int8 weights, which is by rows"}


BITSANDBYTES = QuantizedFormat(
    names=("bitsandbytes",),
    decode=decode_bitsandbytes,
    library="bitsandbytes",
    endings=(".absmax", ".quant_map", ".SCB"),
    implied_by=lambda settings: bool(settings.keys() & {"load_in_4bit", "load_in_8bit"}),
)
