"""What an importance matrix lacks: experts that saw no token, or whose values are not numbers. Their importance is 1.

Source of the 1: `load_imatrix` in tools/quantize/quantize.cpp of llama.cpp (commit 0c1e570), for experts without tokens.
"""

import re
from collections.abc import Mapping

import numpy
from numpy.typing import NDArray

Floats = NDArray[numpy.float32]
_EXPERTS = re.compile(r"(blk\.\d+\.ffn_)(?:gate|up|down|gate_up)_exps\.weight")


def missing(rows: Floats) -> NDArray[numpy.bool_]:
    """Tell which of float32 [matrices, row length] hold nothing: all zero, or with NaN or infinity."""
    return numpy.asarray(~(numpy.isfinite(rows).all(axis=1) & rows.any(axis=1)))


def filled(values: Floats, n_matrices: int) -> tuple[Floats, int]:
    """Return float32 [matrices * row length] with 1 for matrices that are missing, and how many these are."""
    rows = values.reshape(n_matrices, -1)
    absent = missing(rows)
    if not absent.any():
        return values, 0
    return numpy.where(absent[:, None], numpy.float32(1), rows).reshape(-1), int(absent.sum())


def experts_of(name: str, sizes: Mapping[str, int]) -> int:
    """Return how many matrices stand in an entry of that name, from the lengths of all entries; 1 if they do not say.

    The router of a block has one value for each column of the matrices that its experts read with.
    """
    match = _EXPERTS.fullmatch(name)
    width = sizes.get(f"{match[1]}gate_inp.weight", 0) if match else 0
    if match is None or not width:
        return 1
    reading = (sizes.get(f"{match[1]}{part}_exps.weight", 0) for part in ("gate", "up", "gate_up"))
    count = next((size // width for size in reading if size and size % width == 0), 1)
    return count if sizes[name] % count == 0 else 1
