"""The batch of tokens that llama.cpp takes at once, allocated once and filled in place."""

from collections.abc import Sequence
from typing import Any

import numpy
from numpy.typing import NDArray

from toolkit.native import llama_cpp


class LlamaBatch:
    """A `llama_batch` of at most `capacity` tokens of one sequence."""

    def __init__(self, capacity: int) -> None:
        self._batch = llama_cpp().llama_batch_init(capacity, 0, 1)
        shape = (capacity,)
        self._tokens = numpy.ctypeslib.as_array(self._batch.token, shape=shape)
        self._positions = numpy.ctypeslib.as_array(self._batch.pos, shape=shape)
        self._outputs = numpy.ctypeslib.as_array(self._batch.logits, shape=shape)
        numpy.ctypeslib.as_array(self._batch.n_seq_id, shape=shape)[:] = 1
        for index in range(capacity):
            self._batch.seq_id[index][0] = 0

    def fill(self, tokens: Sequence[int], position: int, wanted: NDArray[numpy.bool_]) -> Any:
        """Return the batch with these tokens from `position` on; `wanted` says whose logits to compute."""
        count = len(tokens)
        self._batch.n_tokens = count
        self._tokens[:count] = tokens
        self._positions[:count] = numpy.arange(position, position + count, dtype=numpy.int32)
        self._outputs[:count] = wanted
        return self._batch

    def close(self) -> None:
        """Free the batch."""
        llama_cpp().llama_batch_free(self._batch)
