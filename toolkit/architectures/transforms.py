"""Transforms between a checkpoint's rows and GGUF's, each a row source around another, so that no tensor is held whole."""

from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

from toolkit.architectures.base import Transform
from toolkit.ggml_types import TensorType
from toolkit.model_config import ModelConfig
from toolkit.rows import Bytes, RowSource


@dataclass(frozen=True)
class InterleavedRope:
    """Rows of a Q or K projection, reordered within each head from split halves to interleaved pairs.

    transformers rotates element k with element k + head_dim / 2, llama.cpp's `llama` graph rotates neighbours: row
    2k + t of a head is row k + t * head_dim / 2 of the source (`LlamaModel.permute` in llama.cpp's converter).
    """

    source: RowSource
    n_head: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the source's shape."""
        return self.source.shape

    @property
    def type(self) -> TensorType:
        """Return the source's type."""
        return self.source.type

    def read_rows(self, start: int, stop: int) -> Bytes:
        """Return rows start to stop in llama.cpp's order; a bias is one row whose elements move."""
        if len(self.shape) == 1:
            elements = self.source.read_rows(0, 1).reshape(self.shape[0], -1)
            return elements[self._origin(numpy.arange(self.shape[0]))].reshape(1, -1)
        origin = self._origin(numpy.arange(start, stop))
        first_head, last_head = start // self._head_length, (stop - 1) // self._head_length + 1
        first = first_head * self._head_length
        return self.source.read_rows(first, last_head * self._head_length)[origin - first]

    @property
    def _head_length(self) -> int:
        return self.shape[0] // self.n_head

    def _origin(self, rows: NDArray[numpy.intp]) -> NDArray[numpy.intp]:
        head, within = numpy.divmod(rows, self._head_length)
        pair, half = numpy.divmod(within, 2)
        result: NDArray[numpy.intp] = head * self._head_length + half * (self._head_length // 2) + pair
        return result


def interleave_rope(heads_key: str) -> Transform:
    """Return the transform for a projection whose number of heads stands under `heads_key` of the config."""

    def transform(source: RowSource, config: ModelConfig) -> RowSource:
        return InterleavedRope(source, config.integer(heads_key))

    return transform
