"""Where two sequences part."""

from collections.abc import Sequence


def first_difference(one: Sequence[object], other: Sequence[object]) -> int | None:
    """Return the first index at which they differ, the end of the shorter if the longer only goes on; None if equal."""
    if one == other:  # quick, where both are of one type
        return None
    end = min(len(one), len(other))
    at = next((index for index in range(end) if one[index] != other[index]), end)
    return None if at == len(one) == len(other) else at
