"""Where the rows of a tensor come from.

A row source knows its shape and the type of what it stores, and reads any range of rows on demand, so that no
conversion ever needs a whole tensor in memory. Row indices run over all leading axes flattened.
"""

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy
from numpy.typing import NDArray

from toolkit.gguf.ggml_types import F32, TensorType

Bytes = NDArray[numpy.uint8]


class RowSource(Protocol):
    """A tensor whose rows can be read."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape, row length last."""
        ...

    @property
    def type(self) -> TensorType:
        """Return the type in which rows are delivered."""
        ...

    def read_rows(self, start: int, stop: int) -> Bytes:
        """Return uint8 [stop - start, row_bytes]: the stored bytes of these rows."""
        ...


def row_count(shape: tuple[int, ...]) -> int:
    """Return the number of rows of a tensor of `shape`; a vector has one."""
    return math.prod(shape[:-1])


@dataclass(frozen=True)
class StoredRows:
    """Rows that lie one after the other in a file or array, read through a memory map."""

    shape: tuple[int, ...]
    type: TensorType
    data: Bytes
    """uint8 [all bytes of the tensor]"""

    def read_rows(self, start: int, stop: int) -> Bytes:
        """Return a view of the stored rows."""
        row_bytes = self.type.row_bytes(self.shape[-1])
        return self.data[start * row_bytes : stop * row_bytes].reshape(stop - start, row_bytes)


def generated(values: NDArray[Any]) -> StoredRows:
    """Return a source of float32 rows for values that no checkpoint stores."""
    stored = numpy.ascontiguousarray(values, dtype="<f4")
    return StoredRows(stored.shape, F32, stored.reshape(-1).view(numpy.uint8))
