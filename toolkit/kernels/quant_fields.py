"""The fields of quant blocks as arrays, and the weights that they stand for.

Of every type here a weight is (d * scale) * level - dmin * minimum, each product rounded to float32 as ggml does: d and
dmin are halves of the quant block, scale and minimum whole numbers of a sub-block, and level the number that the weight's
code stands for.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy
from numpy.typing import NDArray

Floats = NDArray[numpy.float32]
Bytes = NDArray[Any]
"""uint8, which numpy's annotations lose over a shift"""
Integers = NDArray[numpy.int32]


@dataclass(frozen=True)
class QuantFields:
    """The fields of rows [n] of one type, `blocks` quant blocks of `groups` sub-blocks each."""

    d: Floats
    """[n, blocks]"""
    dmin: Floats
    """[n, blocks], 0 where the type has no minimum"""
    scales: Integers
    """[n, blocks * groups]"""
    minima: Integers
    """[n, blocks * groups]"""
    codes: Bytes
    """[n, row length], indexes into the levels of the type"""

    def put(self, rows: NDArray[numpy.bool_], other: "QuantFields") -> None:
        """Take the chosen rows [n] from fields of the same type."""
        for field in fields(self):
            getattr(self, field.name)[rows] = getattr(other, field.name)[rows]


def joined(parts: list[QuantFields]) -> QuantFields:
    """Return the fields of rows whose columns were quantized in parts."""
    return QuantFields(
        *(numpy.concatenate([getattr(part, each.name) for part in parts], 1) for each in fields(QuantFields))
    )


@dataclass(frozen=True)
class QuantFormat:
    """How the quant blocks of a type are made up."""

    block_length: int
    group_length: int
    """weights of a sub-block"""
    block_bytes: int
    levels: tuple[int, ...]
    """ascending; a code is an index into them"""
    scale_range: tuple[int, int]
    """of the whole number of a sub-block; equal where there is none"""
    largest_minimum: int
    """of the whole number of a sub-block; 0 where there is none"""
    has_minimum: bool
    take_apart: Callable[[Bytes], QuantFields]
    """uint8 [n, row bytes] -> fields"""
    put_together: Callable[[QuantFields], Bytes]

    @property
    def is_linear(self) -> bool:
        """Tell whether neighbouring levels are 1 apart."""
        return self.levels[-1] - self.levels[0] == len(self.levels) - 1


def values_of(format_: QuantFormat, parts: QuantFields) -> Floats:
    """Return float32 [n, row length], bit for bit what ggml makes of the quant blocks."""
    levels = numpy.array(format_.levels, numpy.float32)[parts.codes]
    scales, minima = sub_block_values(format_, parts)
    grouped = levels.reshape(*scales.shape, format_.group_length)
    return (scales[..., None] * grouped - minima[..., None]).reshape(levels.shape)


def sub_block_values(format_: QuantFormat, parts: QuantFields) -> tuple[Floats, Floats]:
    """Return float32 [n, sub-blocks] twice: what levels are multiplied with, and what is taken off."""
    groups = format_.block_length // format_.group_length
    scales = numpy.repeat(parts.d, groups, 1) * parts.scales.astype(numpy.float32)
    return scales, numpy.repeat(parts.dmin, groups, 1) * parts.minima.astype(numpy.float32)
