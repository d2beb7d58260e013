"""MXFP4 experts of gpt-oss: NAME_blocks uint8 [experts, outputs, inputs / 32, 16] and NAME_scales [experts, outputs, inputs / 32].

GGUF has the same grid, so the blocks are kept. A block of GGUF is the scale byte and 16 bytes with element j in the low
nibble and element j + 16 in the high one; the checkpoint has neighbours 2j and 2j + 1 there.
"""

from dataclasses import dataclass

import numpy

from toolkit.errors import CheckpointError
from toolkit.gguf.ggml_types import TYPES, TensorType
from toolkit.gguf.rows import Bytes
from toolkit.quantized_sources.dequantized import Opened
from toolkit.quantized_sources.numbers import Numbers
from toolkit.quantized_sources.packing import unpack_nibbles
from toolkit.quantized_sources.parts import Parts

MXFP4 = TYPES["MXFP4"]
GROUP_BYTES = 16


@dataclass(frozen=True)
class RepackedRows:
    """Rows of MXFP4 blocks in GGUF's order of nibbles; no weight changes."""

    shape: tuple[int, ...]
    blocks: Numbers
    """[rows, groups, 16]"""
    scales: Numbers
    """[rows, groups]"""
    type: TensorType = MXFP4

    def read_rows(self, start: int, stop: int) -> Bytes:
        """Return uint8 [stop - start, groups * 17]."""
        codes = unpack_nibbles(self.blocks.bits[start:stop])
        result = numpy.empty((*codes.shape[:2], 1 + GROUP_BYTES), dtype=numpy.uint8)
        result[..., 0] = self.scales.bits[start:stop]
        result[..., 1:] = codes[..., :GROUP_BYTES] | codes[..., GROUP_BYTES:] << 4
        return result.reshape(stop - start, -1)


def open_mxfp4(parts: Parts) -> Opened:
    """Return a tensor NAME_blocks of type MXFP4, shape [experts, outputs, inputs], for every pair of blocks and scales.

    Raises CheckpointError if one of a pair is missing, or they do not fit each other.
    """
    made = {}
    for stem in parts.modules("_blocks"):
        blocks = parts.require(f"{stem}_blocks", stem)
        scales = parts.require(f"{stem}_scales", blocks.name)
        if len(blocks.shape) < 3 or blocks.shape[-1] != GROUP_BYTES or blocks.dtype != "U8":
            raise CheckpointError(
                f"{blocks.name} is {blocks.dtype} {list(blocks.shape)}, expected U8 [experts, rows, groups, 16]"
            )
        parts.require_shape(scales, blocks.shape[:-1])
        groups = blocks.shape[-2]
        shape = (*blocks.shape[:-2], groups * MXFP4.block_length)
        source = RepackedRows(shape, blocks.reshaped(-1, groups, GROUP_BYTES), scales.reshaped(-1, groups))
        made[blocks.name] = parts.tensor_of(blocks.name, source, (blocks.name, scales.name))
    return Opened(made)
