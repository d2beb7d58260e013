"""Cut a conversion plan into several files, in llama.cpp's naming and with its keys.

As llama-gguf-split does it (tools/gguf-split of llama.cpp): all metadata stands in the first file, tensors keep their order,
and every file says which one it is. Unlike there, a limit on the size is one on whole files, header included.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from toolkit.conversion.tensor_plan import ConversionPlan, TensorPlan
from toolkit.errors import InputError
from toolkit.gguf.format import Metadata, MetadataValue, ValueType
from toolkit.gguf.layout import Layout, alignment_of, info_bytes, lay_out
from toolkit.units import format_size

MAX_SHARDS = (1 << 16) - 1
"""split.count has 16 bits"""


@dataclass(frozen=True)
class ShardLimit:
    """What one file may hold; None: anything."""

    max_bytes: int | None = None
    max_tensors: int | None = None


@dataclass(frozen=True)
class Shard:
    """One file of a split model: its tensors and where they lie in it."""

    tensors: tuple[TensorPlan, ...]
    layout: Layout


def split_plan(plan: ConversionPlan, limit: ShardLimit) -> tuple[Shard, ...]:
    """Return the files that a plan's output is split into; one if it keeps within the limit, laid out as without it.

    Raises InputError if a tensor is too large for a file, or if there would be too many.
    """
    if plan.file_bytes <= (limit.max_bytes or math.inf) and len(plan.tensors) <= (limit.max_tensors or math.inf):
        return (Shard(plan.tensors, plan.layout),)
    groups = list(_groups(plan, limit))
    if len(groups) > MAX_SHARDS:
        raise InputError(f"the model would be split into {len(groups):,} files; llama.cpp reads at most {MAX_SHARDS:,}")
    return tuple(
        Shard(group, lay_out(_metadata(plan, number, len(groups)), group)) for number, group in enumerate(groups)
    )


def _groups(plan: ConversionPlan, limit: ShardLimit) -> Iterator[tuple[TensorPlan, ...]]:
    """Yield the tensors of each file; none for the first where metadata leaves no room."""
    group: list[TensorPlan] = []
    n_bytes = _empty_bytes(plan, 0)
    if limit.max_bytes is not None and n_bytes > limit.max_bytes:
        raise InputError(
            f"the metadata alone takes {format_size(n_bytes)}, more than --split-max-size {format_size(limit.max_bytes)}"
        )
    for tensor in plan.tensors:
        added = info_bytes(tensor) + tensor.n_bytes + alignment_of(plan.metadata)
        full = limit.max_tensors is not None and len(group) >= limit.max_tensors
        if full or (limit.max_bytes is not None and n_bytes + added > limit.max_bytes):
            yield tuple(group)
            group, n_bytes = [], _empty_bytes(plan, 1)
            _refuse_too_large(tensor, n_bytes + added, limit)
        group.append(tensor)
        n_bytes += added
    yield tuple(group)


def _empty_bytes(plan: ConversionPlan, number: int) -> int:
    """Return the most that a file without tensors takes."""
    return lay_out(_metadata(plan, number, 1), ()).file_bytes + alignment_of(plan.metadata)


def _refuse_too_large(tensor: TensorPlan, n_bytes: int, limit: ShardLimit) -> None:
    if limit.max_bytes is not None and n_bytes > limit.max_bytes:
        raise InputError(
            f"a file with {tensor.name} alone takes {format_size(n_bytes)}, more than --split-max-size "
            f"{format_size(limit.max_bytes)}; tensors are not cut"
        )


def _metadata(plan: ConversionPlan, number: int, count: int) -> Metadata:
    """Return the metadata of a file, its own keys in the order in which llama-gguf-split writes them."""
    own = {
        "split.no": MetadataValue(ValueType.UINT16, number),
        "split.tensors.count": MetadataValue(ValueType.INT32, len(plan.tensors)),
        "split.count": MetadataValue(ValueType.UINT16, count),
    }
    return {**plan.metadata, **own} if number == 0 else own
