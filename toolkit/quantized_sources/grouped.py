"""The layout that GPTQ and AWQ share: codes [inputs, outputs], a scale and a zero for every group of inputs and output."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

from toolkit.quantized_sources.dequantized import Grid
from toolkit.quantized_sources.numbers import Floats, Numbers
from toolkit.quantized_sources.packing import Codes

ReadColumns = Callable[[int, int], Codes]


@dataclass(frozen=True)
class GroupedMatrix:
    """w[o, i] = scales[group of i, o] * (code[i, o] - zero[group of i, o]), in float32."""

    codes: ReadColumns
    """uint8 [inputs, stop - start] of outputs start to stop"""
    zeros: ReadColumns
    """uint8 [groups, stop - start], as stored"""
    zero_offset: int
    """what is added to a stored zero"""
    scales: Numbers
    """[groups, outputs]"""
    groups: NDArray[numpy.intp]
    """[inputs]"""

    def values(self, start: int, stop: int) -> Floats:
        """Return float32 [stop - start, inputs]."""
        zeros = self._zeros(start, stop)
        steps = (self.codes(start, stop).astype(numpy.int16) - zeros[self.groups]).astype(numpy.float32)
        scales = self.scales.floats((slice(None), slice(start, stop)))
        steps *= scales[self.groups]
        return steps.T

    def _zeros(self, start: int, stop: int) -> NDArray[numpy.int16]:
        """Return int16 [groups, stop - start]."""
        return self.zeros(start, stop).astype(numpy.int16) + numpy.int16(self.zero_offset)

    def grid(self, bits: int) -> Grid | None:
        """Return the integers by rows of the weight; None where the inputs of a group do not follow each other."""
        size = len(self.groups) // len(self.scales.bits)
        if not numpy.array_equal(self.groups, numpy.arange(len(self.groups)) // size):
            return None
        return Grid(
            bits,
            size,
            codes=lambda start, stop: self.codes(start, stop).T,
            scales=lambda start, stop: self.scales.floats((slice(None), slice(start, stop))).T,
            zeros=lambda start, stop: self._zeros(start, stop).T,
        )
