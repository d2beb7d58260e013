"""What a tensor of a checkpoint is, whatever file format or quantization it is stored in."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy

from toolkit.errors import TensorError
from toolkit.gguf.ggml_types import BF16, F16, F32, TensorType
from toolkit.gguf.rows import Bytes, RowSource, StoredRows

FLOAT_DTYPES = {"F32": F32, "F16": F16, "BF16": BF16}


class CheckpointTensor(Protocol):
    """A named tensor whose weights can be read row by row."""

    @property
    def name(self) -> str:
        """Return the name under which the checkpoint stores it."""
        ...

    @property
    def dtype(self) -> str:
        """Return the type of its numbers, in the spelling of safetensors."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape, row length last."""
        ...

    @property
    def file(self) -> Path:
        """Return the file that holds it."""
        ...

    @property
    def n_bytes(self) -> int:
        """Return the bytes that it takes in the checkpoint."""
        ...

    def rows(self) -> RowSource:
        """Return its rows as floats.

        Raises TensorError if its numbers are not plain weights.
        """
        ...


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of a checkpoint as it is stored: nothing is read until `data` is touched."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: Bytes
    """uint8 [all bytes of the tensor], a view of the memory map"""
    file: Path

    @property
    def n_bytes(self) -> int:
        """Return the bytes that it takes in the checkpoint."""
        return self.data.nbytes

    def rows(self) -> RowSource:
        """Return its rows as floats.

        Raises TensorError if its numbers are not plain weights.
        """
        if self.dtype in FLOAT_DTYPES:
            return StoredRows(self.shape, FLOAT_DTYPES[self.dtype], self.data)
        if self.dtype == "F64":
            return DoubleRows(self.shape, self.data)
        raise TensorError(
            f"{self.name} is {self.dtype}, which does not hold plain weights; "
            "config.json has no quantization_config that would say what its numbers mean"
        )


@dataclass(frozen=True)
class DoubleRows:
    """Rows of a float64 tensor, delivered as float32."""

    shape: tuple[int, ...]
    data: Bytes
    type: TensorType = F32

    def read_rows(self, start: int, stop: int) -> Bytes:
        """Return uint8 [stop - start, row length * 4], rounded to float32."""
        length = self.shape[-1]
        doubles = numpy.ascontiguousarray(self.data[start * length * 8 : stop * length * 8]).view("<f8")
        with numpy.errstate(over="ignore"):  # an infinity is refused later, by name
            floats = doubles.astype("<f4")
        return floats.view(numpy.uint8).reshape(stop - start, length * 4)
