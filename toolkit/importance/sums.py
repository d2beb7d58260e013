"""Importance matrices as they are collected: sums of squares and counts, which can be added up, written and read.

The file is llama.cpp's GGUF importance matrix. Source: `save_imatrix()` and `load_imatrix()` in
tools/imatrix/imatrix.cpp of llama.cpp (commit 0c1e570).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy
from numpy.typing import NDArray

from toolkit.errors import ImatrixError
from toolkit.gguf.format import Metadata, ValueType, array, string, uint32
from toolkit.gguf.ggml_types import F32, TensorType
from toolkit.gguf.layout import lay_out
from toolkit.gguf.output_file import whole_or_absent

Floats = NDArray[numpy.float32]
SUMS, COUNTS = ".in_sum2", ".counts"
_EXPERTS = re.compile(r"(blk\.\d+\.ffn_)(?:gate|up|down|gate_up)_exps\.weight")


@dataclass(frozen=True)
class TensorSums:
    """What was collected for one weight: an expert tensor has one matrix an expert, others have one."""

    sums: Floats = field(repr=False)
    """float32 [matrices, row length]: squares of what was multiplied with each column"""
    counts: NDArray[numpy.int64] = field(repr=False)
    """int64 [matrices or 1]: how many tokens each matrix has seen"""

    @property
    def means(self) -> Floats:
        """Return float32 [matrices, row length]: mean squares; 0 for an expert that saw nothing."""
        counts = numpy.maximum(self.counts, 1).astype(numpy.float32)
        return self.sums / counts[:, None]

    def split(self, n_matrices: int) -> "TensorSums":
        """Return the sums of each matrix, where there was one count for all of them; one of zeros saw nothing."""
        if len(self.counts) == n_matrices or len(self.counts) > 1 or self.sums.size % n_matrices:
            return self
        sums = self.sums.reshape(n_matrices, -1)
        return TensorSums(sums, numpy.where(sums.any(axis=1), self.counts, 0))

    @property
    def unseen(self) -> int:
        """Return how many matrices saw no token."""
        return int((self.counts == 0).sum())


@dataclass(frozen=True)
class ImatrixSums:
    """The sums of a whole model."""

    entries: Mapping[str, TensorSums] = field(repr=False)
    chunk_size: int
    datasets: tuple[str, ...]

    @property
    def chunks(self) -> int:
        """Return how many chunks of `chunk_size` tokens the most used tensor has seen."""
        return max(int(entry.counts.max()) for entry in self.entries.values()) // self.chunk_size


@dataclass(frozen=True)
class _Written:
    """A tensor of the file."""

    name: str
    values: Floats

    @property
    def shape(self) -> tuple[int, ...]:
        # ggml drops leading lengths of 1.
        return self.values.shape if self.values.shape[0] > 1 else self.values.shape[1:]

    @property
    def type(self) -> TensorType:
        return F32


def write_imatrix(sums: ImatrixSums, path: Path, *, force: bool = False) -> None:
    """Write an importance matrix, whole or not at all.

    Raises InputError or OutputError if it cannot be written, ImatrixError if there is nothing to write.
    """
    if not sums.entries:
        raise ImatrixError("no tensor was seen, so there is no importance matrix to write; use a longer text")
    tensors = [tensor for name in sorted(sums.entries) for tensor in _tensors(name, sums.entries[name])]
    layout = lay_out(_metadata(sums), tensors)
    with whole_or_absent(path, layout.file_bytes, force=force) as work:
        for tensor, offset in zip(tensors, layout.offsets, strict=True):
            work.write(offset, numpy.ascontiguousarray(tensor.values, "<f4").reshape(-1).view(numpy.uint8).data)
        work.write(0, layout.header)


def _metadata(sums: ImatrixSums) -> Metadata:
    return {
        "general.type": string("imatrix"),
        "imatrix.datasets": array(ValueType.STRING, sums.datasets),
        "imatrix.chunk_count": uint32(sums.chunks),
        "imatrix.chunk_size": uint32(sums.chunk_size),
    }


def _tensors(name: str, entry: TensorSums) -> list[_Written]:
    counts = entry.counts.astype(numpy.float32).reshape(-1, 1)
    # A weight with several matrices and one count for all is stored with all its sums in one row.
    return [_Written(name + SUMS, entry.sums.reshape(len(counts), -1)), _Written(name + COUNTS, counts)]


def merge_sums(parts: Sequence[ImatrixSums]) -> ImatrixSums:
    """Return the importance matrix of all texts together.

    Raises ImatrixError if two of them are of different models.
    """
    merged: dict[str, TensorSums] = {}
    for part in parts:
        for name, entry in part.entries.items():
            merged[name] = _added(name, merged[name], entry) if name in merged else entry
    datasets = tuple(name for part in parts for name in part.datasets)
    return ImatrixSums(merged, parts[0].chunk_size, datasets)


def _added(name: str, first: TensorSums, second: TensorSums) -> TensorSums:
    matrices = max(len(first.counts), len(second.counts))
    first, second = first.split(matrices), second.split(matrices)
    if first.sums.shape != second.sums.shape or first.counts.shape != second.counts.shape:
        raise ImatrixError(
            f"{name} has sums of shape {first.sums.shape} in one importance matrix and {second.sums.shape} in another; "
            "they belong to different models"
        )
    return TensorSums(first.sums + second.sums, first.counts + second.counts)


def missing(rows: Floats) -> NDArray[numpy.bool_]:
    """Tell which of float32 [matrices, row length] hold nothing: all zero, or with NaN or infinity."""
    return numpy.asarray(~(numpy.isfinite(rows).all(axis=1) & rows.any(axis=1)))


def filled(values: Floats, n_matrices: int) -> tuple[Floats, int]:
    """Return float32 [matrices * row length] with 1 for matrices that are missing, and how many these are.

    Source of the 1: `load_imatrix` in tools/quantize/quantize.cpp of llama.cpp (commit 0c1e570), for experts without tokens.
    """
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
