"""FP4 (E2M1) weights, two codes a byte, the even one in the low nibble, with a scale for every group: NVFP4 and MXFP4.

NVFP4: GGUF has quant blocks for it, but the factor of the whole tensor would be a tensor beside them, which only some of
llama.cpp's graphs multiply by. In the others it would be lost in silence, so NVFP4 is dequantized.

MXFP4: experts of gpt-oss, NAME_blocks uint8 [experts, outputs, inputs / 32, 16] and NAME_scales [experts, outputs, inputs / 32].
GGUF has the same grid, so its codes are kept. A quant block of GGUF is the scale byte and 16 bytes with element j in the low
nibble and element j + 16 in the high one; the checkpoint has neighbours 2j and 2j + 1 there.
"""

from dataclasses import dataclass

import numpy

from toolkit.errors import CheckpointError
from toolkit.gguf.ggml_types import TYPES, TensorType
from toolkit.gguf.rows import Bytes
from toolkit.quantized_sources.numbers import FP4_LEVELS, Floats, Numbers, unpack_nibbles
from toolkit.quantized_sources.quantized_format import DecodedTensors, DequantizedTensor, Parts, QuantizedFormat

NVFP4_GROUP = 16
GROUP_BYTES = 16
"""of MXFP4: 32 codes"""
_MXFP4_TYPE = TYPES["MXFP4"]


@dataclass(frozen=True)
class Fp4Matrix:
    """w = level[code] * (scale of its group * factor), in float32, where the factor is that of the whole tensor."""

    codes: Numbers
    """[rows, columns / 2]"""
    scales: Numbers
    """[rows, columns / group]"""
    factor: numpy.float32
    divides: bool
    """whether scales are divided by the factor, as compressed-tensors does, instead of multiplied"""
    group: int

    def values(self, start: int, stop: int) -> Floats:
        """Return float32 [stop - start, columns]."""
        scales = self.scales.floats(slice(start, stop))
        scales = scales / self.factor if self.divides else scales * self.factor
        weights = FP4_LEVELS[unpack_nibbles(self.codes.bits[start:stop])]
        return weights * numpy.repeat(scales, self.group, axis=1)


@dataclass(frozen=True)
class RepackedRows:
    """Rows of MXFP4 in quant blocks of GGUF: the nibbles change their order, no weight changes."""

    shape: tuple[int, ...]
    blocks: Numbers
    """[rows, groups, 16]"""
    scales: Numbers
    """[rows, groups]"""
    type: TensorType = _MXFP4_TYPE

    def read_rows(self, start: int, stop: int) -> Bytes:
        """Return uint8 [stop - start, groups * 17]."""
        codes = unpack_nibbles(self.blocks.bits[start:stop])
        result = numpy.empty((*codes.shape[:2], 1 + GROUP_BYTES), dtype=numpy.uint8)
        result[..., 0] = self.scales.bits[start:stop]
        result[..., 1:] = codes[..., :GROUP_BYTES] | codes[..., GROUP_BYTES:] << 4
        return result.reshape(stop - start, -1)


@dataclass(frozen=True)
class Nvfp4Parts:
    """The three tensors of an NVFP4 weight."""

    codes: Numbers
    scales: Numbers
    factor: Numbers
    divides: bool


def nvfp4_tensor(parts: Parts, weight: str, stored: Nvfp4Parts) -> DequantizedTensor:
    """Return the tensor of an NVFP4 weight.

    Raises CheckpointError if its parts do not fit each other.
    """
    rows, columns = stored.codes.shape[0], 2 * stored.codes.shape[-1]
    parts.require_shape(stored.scales, (rows, columns // NVFP4_GROUP))
    if stored.factor.bits.size != 1 or columns % NVFP4_GROUP:
        raise CheckpointError(f"{stored.factor.name} has shape {list(stored.factor.shape)}, expected one number")
    factor = stored.factor.floats().reshape(-1)[0]
    matrix = Fp4Matrix(stored.codes, stored.scales, factor, stored.divides, NVFP4_GROUP)
    names = (stored.codes.name, stored.scales.name, stored.factor.name)
    return parts.tensor(weight, (rows, columns), matrix.values, names)


def decode_mxfp4(parts: Parts) -> DecodedTensors:
    """Return a tensor NAME_blocks of type MXFP4, shape [experts, outputs, inputs], for every pair of blocks and scales.

    Raises CheckpointError if one of a pair is missing, or they do not fit each other.
    """
    decoded = {}
    for stem in parts.modules("_blocks"):
        blocks = parts.require(f"{stem}_blocks", stem)
        scales = parts.require(f"{stem}_scales", blocks.name)
        if len(blocks.shape) < 3 or blocks.shape[-1] != GROUP_BYTES or blocks.dtype != "U8":
            raise CheckpointError(
                f"{blocks.name} is {blocks.dtype} {list(blocks.shape)}, expected U8 [experts, rows, groups, 16]"
            )
        parts.require_shape(scales, blocks.shape[:-1])
        groups = blocks.shape[-2]
        shape = (*blocks.shape[:-2], groups * _MXFP4_TYPE.block_length)
        source = RepackedRows(shape, blocks.reshaped(-1, groups, GROUP_BYTES), scales.reshaped(-1, groups))
        decoded[blocks.name] = parts.tensor_of(blocks.name, source, (blocks.name, scales.name))
    return DecodedTensors(decoded)


MXFP4 = QuantizedFormat(names=("mxfp4",), decode=decode_mxfp4)
