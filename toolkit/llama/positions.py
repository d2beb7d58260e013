"""Models that look their positions up in a table of learnt ones: llama.cpp ends the process beyond its end."""

from collections.abc import Iterable

from toolkit.errors import InputError
from toolkit.gguf.layout import Placed

TABLE = "position_embd.weight"
LEARNT_POSITIONS = ("bert", "gpt2", "mpt", "starcoder")
"""the architectures that may have the table; some MPT models have none"""


def learnt_positions(tensors: Iterable[Placed]) -> int | None:
    """Return how many positions a model has learnt, None if it has no table of them."""
    return next((tensor.shape[0] for tensor in tensors if tensor.name == TABLE), None)


def check_positions(name: str, positions: int | None, n_ctx: int) -> None:
    """Raise InputError for sequences of n_ctx tokens where fewer positions were learnt."""
    if positions is not None and n_ctx > positions:
        raise InputError(
            f"{name} has learnt {positions:,} positions, so sequences of {n_ctx:,} tokens cannot be evaluated; the largest "
            f"usable n_ctx is {positions}"
        )
