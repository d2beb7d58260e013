"""Some blocks of a model as a GGUF file of their own, which llama.cpp can load and evaluate without the others.

One that begins at block 0 takes tokens. Any other takes the hidden states that the block before it gave, and has a
vocabulary of a few nameless tokens, so that its logits, which nobody needs, cost nothing.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from toolkit.conversion.convert import ConversionOptions, write_gguf
from toolkit.conversion.tensor_plan import ConversionPlan, TensorPlan
from toolkit.errors import InputError
from toolkit.gguf.format import EMBEDDING, OUTPUT, Metadata, MetadataValue, ModelKeys, uint32
from toolkit.gguf.ggml_types import TensorType
from toolkit.gguf.layout import lay_out
from toolkit.gguf.rows import Bytes, RowSource, StoredRows
from toolkit.memory.skeleton import without_vocabulary

BLOCK_NAME = re.compile(r"blk\.(\d+)\.")
_FEW_TOKENS = 32
ALONE = frozenset({"llama", "qwen2", "qwen2moe", "qwen3"})
"""Architectures whose blocks compute the same wherever they stand, and that take hidden states as they are.

One whose sliding window comes and goes with the number of a block, as Olmo 3's, is none of them.
"""


@dataclass(frozen=True)
class Blocks:
    """The blocks from `first` to `last`, both included."""

    first: int
    last: int

    @property
    def takes_tokens(self) -> bool:
        """Tell whether the model of these blocks begins with the embedding."""
        return self.first == 0

    def name_inside(self, name: str) -> str | None:
        """Return what a tensor is called in the model of these blocks; None for one of another block."""
        match = BLOCK_NAME.match(name)
        if match is None:
            return name
        block = int(match[1])
        return f"blk.{block - self.first}.{name[match.end() :]}" if self.first <= block <= self.last else None

    def name_outside(self, name: str) -> str:
        """Return what a tensor of the model of these blocks is called in the whole model."""
        match = BLOCK_NAME.match(name)
        return name if match is None else f"blk.{int(match[1]) + self.first}.{name[match.end() :]}"


def block_count(metadata: Metadata) -> int:
    """Return the number of blocks.

    Raises InputError if the metadata does not say.
    """
    count = ModelKeys(metadata).integer("block_count")
    if count is None:
        raise InputError("the model does not say how many blocks it has, so they cannot be calibrated one by one")
    return count


def blocks_for(metadata: Metadata, block: int) -> Blocks:
    """Return the least blocks that have to be evaluated for one of them: itself, or all up to it."""
    return Blocks(block if ModelKeys(metadata).architecture in ALONE else 0, block)


def blocks_to_the_end(metadata: Metadata) -> list[Blocks]:
    """Return what has to be evaluated, one after the other, for the last block: each block, or all at once."""
    last = block_count(metadata) - 1
    if blocks_for(metadata, last).takes_tokens:
        return [Blocks(0, last)]
    return [blocks_for(metadata, block) for block in range(last + 1)]


def write_blocks(plan: ConversionPlan, blocks: Blocks, path: Path) -> None:
    """Write the model of some blocks.

    Raises what `write_gguf` does.
    """
    tensors = [
        replace(tensor, name=name) for tensor in plan.tensors if (name := blocks.name_inside(tensor.name)) is not None
    ]
    metadata = _metadata(plan.metadata, blocks)
    if not blocks.takes_tokens:
        tensors = [_few_tokens(tensor) for tensor in tensors]
        metadata = without_vocabulary(metadata, tensors)
    part = replace(plan, metadata=metadata, tensors=tuple(tensors), layout=lay_out(metadata, tensors))
    write_gguf(part, path, ConversionOptions(force=True, allow_nan=True))


def _metadata(metadata: Metadata, blocks: Blocks) -> Metadata:
    """Return the keys for some blocks: their number, and their part of every list that has a value a block."""
    architecture, count = ModelKeys(metadata).architecture, block_count(metadata)
    changed = {f"{architecture}.block_count": uint32(blocks.last - blocks.first + 1)}
    for key, value in metadata.items():
        if key.startswith(f"{architecture}.") and isinstance(value.value, tuple) and len(value.value) == count:
            part = value.value[blocks.first : blocks.last + 1]
            changed[key] = MetadataValue(value.type, part, value.item_type)
    return metadata | changed


def _few_tokens(tensor: TensorPlan) -> TensorPlan:
    if tensor.name not in (EMBEDDING, OUTPUT):
        return tensor
    shape = (min(_FEW_TOKENS, tensor.shape[0]), *tensor.shape[1:])
    return replace(tensor, shape=shape, source=_FirstRows(tensor.source, shape))


@dataclass(frozen=True)
class _FirstRows:
    """The first rows of another source."""

    rows: RowSource
    shape: tuple[int, ...]

    @property
    def type(self) -> TensorType:
        """Return the type of all rows."""
        return self.rows.type

    def read_rows(self, start: int, stop: int) -> Bytes:
        """Return stored rows."""
        return self.rows.read_rows(start, stop)


def stored(tensor: TensorPlan, data: Bytes) -> TensorPlan:
    """Return the plan of a tensor whose bytes are known: uint8 [all bytes of the tensor], of its type."""
    return replace(
        tensor, source=StoredRows(tensor.shape, tensor.type, data), importance=None, rounding=None, fallback_from=None
    )
