"""A text cut into chunks, as llama-perplexity cuts it.

A chunk is n_ctx_seq tokens. Every chunk starts on an empty memory, its first token is replaced by BOS if the model wants
one, and its second half is scored, so that each scored token has at least n_ctx_seq / 2 of context. As many chunks as a
runtime has sequences are evaluated side by side. With a stride, chunks overlap: each begins `stride` tokens after the one
before, keeps its first token, and is scored on its last `stride` tokens.
Source: `perplexity()` and `perplexity_v2()` in tools/perplexity/perplexity.cpp of llama.cpp (commit 0c1e570).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

from toolkit.errors import TextError
from toolkit.llama.evaluation import Logits, Runtime

SMALLEST_CHUNK = 4
_BATCH_TOKENS = 2048
_MOST_SEQUENCES = 256
_CONTEXT_STEP = 256


@dataclass(frozen=True)
class Chunks:
    """Tokens cut into chunks of n_ctx_seq, of which the positions from `first` on are scored."""

    tokens: Sequence[int]
    n_ctx_seq: int
    count: int
    stride: int | None = None
    """how many tokens after a chunk's begin the next one begins, where they overlap"""
    order: Sequence[int] | None = None
    """the numbers of the chunks as they are visited; None: from the first to the last"""

    @property
    def first(self) -> int:
        """Return the first position whose logits are used; they predict the token after it."""
        return self.n_ctx_seq // 2 if self.stride is None else self.n_ctx_seq - 1 - self.stride

    @property
    def scored(self) -> slice:
        """Return the positions whose logits are used; the last one predicts nothing in its chunk."""
        return slice(self.first, self.n_ctx_seq - 1)

    def start(self, index: int) -> int:
        """Return the number of a chunk's first token."""
        return index * (self.n_ctx_seq if self.stride is None else self.stride)

    def input_tokens(self, index: int, bos_token: int | None) -> list[int]:
        """Return the tokens of one chunk as the model gets them."""
        tokens = list(self.tokens[self.start(index) : self.start(index) + self.n_ctx_seq])
        return tokens if bos_token is None or self.stride is not None else [bos_token, *tokens[1:]]

    def targets(self, index: int, position: int, count: int) -> NDArray[numpy.int64]:
        """Return the tokens [count] that the logits from a position of a chunk on should predict."""
        first = self.start(index) + position + 1
        return numpy.asarray(self.tokens[first : first + count], numpy.int64)

    def groups(self, size: int) -> Iterator[Sequence[int]]:
        """Yield the numbers of the chunks to be evaluated side by side, at most `size` of them."""
        order = self.order if self.order is not None else range(self.count)
        return (order[start : start + size] for start in range(0, len(order), size))

    def describe(self, index: int) -> str:
        """Name a chunk as a person counts them."""
        start = self.start(index)
        return f"chunk {index + 1} of {self.count} (tokens {start:,} to {start + self.n_ctx_seq - 1:,})"


def cut_chunks(
    tokens: Sequence[int], n_ctx_seq: int, max_chunks: int | None = None, stride: int | None = None
) -> Chunks:
    """Return the chunks of a text.

    Raises TextError if there are fewer than two, which is too little to say anything, or a stride leaves gaps.
    """
    if n_ctx_seq < SMALLEST_CHUNK:
        raise TextError(f"a chunk of {n_ctx_seq} tokens is too short to score; use at least {SMALLEST_CHUNK}")
    if len(tokens) < 2 * n_ctx_seq:
        largest = len(tokens) // 2
        advice = f"the largest usable chunk is {largest:,}" if largest >= SMALLEST_CHUNK else "give a longer text"
        raise TextError(
            f"the text has {len(tokens):,} tokens, but chunks of {n_ctx_seq:,} need {2 * n_ctx_seq:,} (two chunks); {advice}"
        )
    if stride is not None and not 0 < stride < n_ctx_seq:
        raise TextError(f"a stride of {stride:,} does not fit in a chunk of {n_ctx_seq:,}; use less than that")
    count = len(tokens) // n_ctx_seq if stride is None else -(-(len(tokens) - n_ctx_seq) // stride)
    return Chunks(tokens, n_ctx_seq, count if max_chunks is None else max(1, min(count, max_chunks)), stride)


def chunks_together(n_ctx_seq: int, max_chunks: int | None = None) -> int:
    """Return how many chunks llama-perplexity evaluates side by side: they fill its batch of 2048 tokens."""
    together = max(1, min(_BATCH_TOKENS // n_ctx_seq, _MOST_SEQUENCES))
    return together if max_chunks is None else min(together, max_chunks)


def strided_chunk(n_ctx_seq: int, stride: int) -> int:
    """Return the tokens of a chunk that llama-perplexity takes for `-c n_ctx_seq -b n_ctx_seq --ppl-stride stride`.

    Its context is longer by half a stride, which llama.cpp rounds up, and all of it becomes the chunk.
    """
    return -(-(n_ctx_seq + stride // 2) // _CONTEXT_STEP) * _CONTEXT_STEP


def evaluate_group(
    runtime: Runtime, chunks: Chunks, group: Sequence[int], logits_for: slice
) -> Iterator[tuple[int, int, Logits]]:
    """Evaluate chunks side by side; yield (place in the group, position, logits) as `Runtime.evaluate_chunks` does."""
    return runtime.evaluate_chunks([chunks.input_tokens(index, runtime.bos_token) for index in group], logits_for)
