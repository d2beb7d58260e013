"""What an importance matrix says of layers: the size of their inputs, and how similar neighbours are.

Source: `compute_statistics()` and `compute_cossim()` in tools/imatrix/imatrix.cpp of llama.cpp (commit 0c1e570).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

from toolkit.importance.sums import ImatrixSums, TensorSums

_BLOCK = re.compile(r"blk\.(\d+)\.(.+)")


@dataclass(frozen=True)
class LayerImportance:
    """One block of the model, over the weights that the matrix covers."""

    layer: int
    tensors: int
    total: float
    """sum of the mean squares of all that is multiplied with its weights"""
    share: float
    """of the totals of all layers"""
    similarity: float | None
    """mean cosine similarity with the same weights of the layer before; None for the first"""
    unseen_experts: int


def layer_importance(sums: ImatrixSums) -> list[LayerImportance]:
    """Return the layers in their order; weights outside of blocks belong to none."""
    layers: dict[int, dict[str, TensorSums]] = {}
    for name, entry in sums.entries.items():
        if match := _BLOCK.match(name):
            layers.setdefault(int(match[1]), {})[match[2]] = entry
    totals = {layer: sum(float(entry.means.sum()) for entry in parts.values()) for layer, parts in layers.items()}
    whole = sum(totals.values()) or 1.0
    return [
        LayerImportance(
            layer,
            len(parts),
            totals[layer],
            totals[layer] / whole,
            _similarity(parts, layers.get(layer - 1, {})),
            sum(entry.unseen for entry in parts.values()),
        )
        for layer, parts in sorted(layers.items())
    ]


def _similarity(parts: dict[str, TensorSums], before: dict[str, TensorSums]) -> float | None:
    cosines = list(_cosines(parts, before))
    return sum(cosines) / len(cosines) if cosines else None


def _cosines(parts: dict[str, TensorSums], before: dict[str, TensorSums]) -> Iterator[float]:
    for name in parts.keys() & before.keys():
        now, previous = (_flat(each[name]) for each in (parts, before))
        norms = float(numpy.linalg.norm(now) * numpy.linalg.norm(previous))
        if now.shape == previous.shape and norms > 0:
            yield float(now @ previous) / norms


def _flat(entry: TensorSums) -> NDArray[numpy.float64]:
    return entry.means.astype(numpy.float64).reshape(-1)
