"""The batch of tokens that llama.cpp takes at once, allocated once and filled in place."""

import ctypes
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy
from numpy.typing import NDArray

from toolkit.llama.native import llama_cpp

Tokens = NDArray[numpy.int32]
Embeddings = NDArray[numpy.float32]


def tokens_at_once(n_sequences: int, n_batch: int, n_ubatch: int) -> int:
    """Return how many tokens of each sequence a batch takes: those of several are computed as one graph."""
    return n_batch if n_sequences == 1 else n_ubatch // n_sequences


def wanted_positions(count: int, logits_for: slice) -> NDArray[numpy.bool_]:
    """Return bool [count], True where logits are wanted."""
    wanted = numpy.zeros(count, numpy.bool_)
    wanted[logits_for] = True
    return wanted


def most_outputs(wanted: Sequence[int], n_sequences: int, n_batch: int, n_ubatch: int) -> int:
    """Return the most logits in a batch of up to so many sequences, where the same positions are wanted of each."""

    def of(count: int) -> int:
        at_once = tokens_at_once(count, n_batch, n_ubatch)
        return count * max(Counter(position // at_once for position in wanted).values(), default=0)

    # A few left over at the end of a text may fill a batch better than the many before.
    return max(of(count) for count in range(1, n_sequences + 1))


class LlamaBatch:
    """A `llama_batch` of at most `capacity` tokens, over arrays of our own."""

    def __init__(self, capacity: int) -> None:
        self._tokens = numpy.zeros(capacity, numpy.int32)
        self._positions, self._sequences = numpy.zeros_like(self._tokens), numpy.zeros_like(self._tokens)
        self._outputs = numpy.zeros(capacity, numpy.int8)
        self._counts = numpy.ones_like(self._tokens)
        addresses = self._sequences.ctypes.data + numpy.arange(capacity, dtype=numpy.uintp) * 4
        self._addresses = addresses.astype(numpy.uintp)
        self._batch = llama_cpp().llama_batch()
        numbers = ctypes.POINTER(ctypes.c_int32)
        self._batch.token = self._tokens.ctypes.data_as(numbers)
        self._batch.pos = self._positions.ctypes.data_as(numbers)
        self._batch.n_seq_id = self._counts.ctypes.data_as(numbers)
        self._batch.seq_id = self._addresses.ctypes.data_as(ctypes.POINTER(numbers))
        self._batch.logits = self._outputs.ctypes.data_as(ctypes.POINTER(ctypes.c_int8))

    def fill(self, tokens: Tokens, position: int, wanted: NDArray[numpy.bool_]) -> Any:
        """Return the batch with tokens [sequences, n], each sequence's from `position` on; `wanted` [n] asks for logits."""
        shape, count = tokens.shape, tokens.size
        self._batch.n_tokens = count
        self._tokens[:count].reshape(shape)[:] = tokens
        self._positions[:count].reshape(shape)[:] = numpy.arange(position, position + shape[1])
        self._sequences[:count].reshape(shape)[:] = numpy.arange(shape[0])[:, None]
        self._outputs[:count].reshape(shape)[:] = wanted
        return self._batch

    def embeddings(self, values: Embeddings) -> Any:
        """Return a batch of hidden states [sequences, n, n_embd] in place of tokens; all logits are wanted."""
        shape = values.shape[:2]
        count = shape[0] * shape[1]
        batch = type(self._batch)()
        ctypes.memmove(ctypes.addressof(batch), ctypes.addressof(self._batch), ctypes.sizeof(batch))
        self._embeddings = numpy.ascontiguousarray(values, numpy.float32)
        batch.n_tokens, batch.token = count, None
        batch.embd = self._embeddings.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        self._positions[:count].reshape(shape)[:] = numpy.arange(shape[1])
        self._sequences[:count].reshape(shape)[:] = numpy.arange(shape[0])[:, None]
        self._outputs[:count] = 1
        return batch

    def single(self, token: int, position: int) -> Any:
        """Return the batch with one token of the first sequence, whose logits are wanted: in as few steps as can be."""
        self._batch.n_tokens = self._outputs[0] = 1
        self._tokens[0], self._positions[0], self._sequences[0] = token, position, 0
        return self._batch
