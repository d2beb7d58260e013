"""What measurements need of a loaded model: tokens in, logits out."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy
from numpy.typing import NDArray

Logits = NDArray[numpy.float32]
"""float32 [tokens, n_vocab]"""


class Runtime(Protocol):
    """A loaded model with sequences of tokens in its memory."""

    @property
    def n_ctx(self) -> int:
        """Return how many tokens a sequence can hold."""
        ...

    @property
    def n_parallel(self) -> int:
        """Return how many sequences can be evaluated together."""
        ...

    @property
    def n_vocab(self) -> int:
        """Return the number of logits of a token."""
        ...

    @property
    def bos_token(self) -> int | None:
        """Return the token that the model wants at the beginning, None if it wants none."""
        ...

    def clear(self) -> None:
        """Forget the sequence."""
        ...

    def rewind(self, n_tokens: int) -> bool:
        """Forget all but the first tokens of the sequence; False, and nothing is forgotten, if the model cannot."""
        ...

    def feed(self, tokens: Sequence[int]) -> None:
        """Append tokens to the sequence and wait until they are computed; their logits stay unread."""
        ...

    def evaluate_chunks(self, chunks: Sequence[Sequence[int]], logits_for: slice) -> Iterator[tuple[int, int, Logits]]:
        """Forget everything; evaluate chunks of one length, each a sequence of its own, side by side.

        Yield (index of the chunk, position in it, logits [n, n_vocab]), each valid until the next one; the positions of a
        chunk come in order.
        """
        ...
