"""FP4 (E2M1) weights, two codes a byte, the even one in the low nibble, with a scale for every group of a row.

GGUF has the blocks of NVFP4, but the factor of the whole tensor stands in a tensor beside them, which the graphs of some
architectures multiply by and those of others do not: its codes are not kept, since nothing would say that it is left out.
"""

from dataclasses import dataclass

import numpy

from toolkit.quantized_sources.numbers import FP4_LEVELS, Floats, Numbers
from toolkit.quantized_sources.packing import unpack_nibbles

NVFP4_GROUP = 16


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
