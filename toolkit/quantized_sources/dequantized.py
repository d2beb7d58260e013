"""What a format makes of packed tensors: tensors whose rows are dequantized when they are read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy
from numpy.typing import NDArray

from toolkit.checkpoint.tensor import CheckpointTensor
from toolkit.gguf.ggml_types import F32, TensorType
from toolkit.gguf.rows import Bytes, RowSource
from toolkit.quantized_sources.numbers import Floats

ReadFloats = Callable[[int, int], Floats]


@dataclass(frozen=True)
class Grid:
    """The integers behind dequantized rows: w = scale * (code - zero), or scale * code + minimum.

    All functions take a range of rows. Groups are `group_size` consecutive columns.
    """

    bits: int
    group_size: int
    codes: Callable[[int, int], NDArray[numpy.uint8]]
    """[rows, columns]"""
    scales: ReadFloats
    """[rows, groups]"""
    zeros: Callable[[int, int], NDArray[numpy.int16]] | None = None
    """[rows, groups]"""
    minimums: ReadFloats | None = None
    """[rows, groups], in place of zeros"""


@dataclass(frozen=True)
class DequantizedRows:
    """Rows of packed codes, delivered as float32; `values(start, stop)` returns float32 [stop - start, row length]."""

    shape: tuple[int, ...]
    values: ReadFloats
    type: TensorType = F32

    def read_rows(self, start: int, stop: int) -> Bytes:
        """Return uint8 [stop - start, row length * 4]."""
        # codes that mean infinity or NaN are refused later, by name
        with numpy.errstate(over="ignore", invalid="ignore"):
            values = self.values(start, stop)
        return numpy.ascontiguousarray(values, dtype="<f4").view(numpy.uint8).reshape(stop - start, -1)


@dataclass(frozen=True)
class DequantizedTensor:
    """A tensor that is computed from several packed ones."""

    name: str
    source: RowSource
    parts: tuple[CheckpointTensor, ...]
    grid: Grid | None = None
    """the integers behind the rows, if every group is a run of columns"""
    blocks: RowSource | None = None
    """the same weights in quant blocks of GGUF, where it has the format itself (MXFP4)"""

    @property
    def dtype(self) -> str:
        """Return the type in which its rows are delivered."""
        return self.source.type.name

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape, row length last."""
        return self.source.shape

    @property
    def file(self) -> Path:
        """Return the file that holds its codes."""
        return self.parts[0].file

    @property
    def n_bytes(self) -> int:
        """Return the bytes that its packed parts take in the checkpoint."""
        return sum(part.n_bytes for part in self.parts)

    def rows(self) -> RowSource:
        """Return its rows as floats."""
        return self.source


@dataclass(frozen=True)
class DecodedTensors:
    """What a format makes of a checkpoint: the tensors in place of packed ones, and what else is left out."""

    tensors: Mapping[str, DequantizedTensor]
    left_out: Mapping[str, str] = field(default_factory=dict)
    """name -> why"""
    warnings: tuple[str, ...] = ()

    @property
    def packed_names(self) -> set[str]:
        """Return the names of the packed tensors that these are made of."""
        return {part.name for tensor in self.tensors.values() for part in tensor.parts}
