"""Find out whether norms that llama.cpp wants with 1 added have it already, as in exports for other runtimes.

The factors of a norm are hardly ever below zero. Where the 1 is still to be added, numbers below zero are therefore
common: in each block of Gemma 3 270M they are 5 to 35 % of its norms, and 0.1 to 1 % once the 1 is added.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy

from toolkit.architectures.parts.base import Architecture
from toolkit.architectures.parts.transforms import element_values, plus_one
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.checkpoint.safetensors_reader import read_metadata
from toolkit.checkpoint.tensor import CheckpointTensor
from toolkit.errors import TensorError
from toolkit.sources.tensor_matching import instances

NORMS = ("checked", "plain", "shifted")
"""what a caller may say of norms: decide by their numbers, the 1 is not added yet, the 1 is added"""
FEW_BELOW_ZERO = 0.02
NEAR_ONE = (0.5, 1.5)
MANY_NORMS = 4
"""Blocks with so many norms or more, as after attention and MLP too, have small ones among them whether shifted or not."""
_BLOCK = re.compile(r"blk\.(\d+)\.")


@dataclass(frozen=True)
class _Block:
    """The norms of one block, or those outside the blocks."""

    norms: int
    below_zero: float
    """share of the numbers"""
    median: float

    @property
    def may_be_shifted(self) -> bool:
        """Tell whether hardly any number is below zero, without being the zeros of an untrained model."""
        return self.below_zero < FEW_BELOW_ZERO and self.median > NEAR_ONE[0]

    @property
    def near_one(self) -> bool:
        """Tell whether the numbers lie around 1."""
        return NEAR_ONE[0] < self.median < NEAR_ONE[1]


def with_norms_as(
    norms: str, architecture: Architecture, config: ModelConfig, stored: Mapping[str, CheckpointTensor]
) -> tuple[Architecture, tuple[str, ...]]:
    """Return the architecture with the norms that a checkpoint has, and warnings; reads norms where they are to be checked.

    Files that PyTorch wrote are taken as they are, with a warning: its runtimes add the 1 themselves.

    Raises TensorError for norms of other files that have the 1 already, in all blocks or in some.
    """
    if norms == "shifted":
        rules = (replace(rule, transform=None) if rule.transform is plus_one else rule for rule in architecture.tensors)
        return replace(architecture, tensors=tuple(rules)), ()
    problem = _problem(list(_blocks(architecture, config, stored).values())) if norms == "checked" else None
    if problem is None:
        return architecture, ()
    if all(_is_of_pytorch(file) for file in {tensor.file for tensor in stored.values()}):
        return architecture, (problem,)
    raise TensorError(problem)


def _is_of_pytorch(file: Path) -> bool:
    return file.suffix != ".safetensors" or read_metadata(file).get("format") == "pt"


def _blocks(
    architecture: Architecture, config: ModelConfig, stored: Mapping[str, CheckpointTensor]
) -> dict[str, _Block]:
    values: dict[str, list[numpy.ndarray[tuple[int], numpy.dtype[numpy.float32]]]] = {}
    for alternatives in instances(architecture.tensors, architecture.block_count(config), config).values():
        for instance in alternatives:
            tensor = stored.get(instance.names[0])
            if instance.rule.transform is plus_one and tensor is not None and 0 not in tensor.shape:
                match = _BLOCK.match(instance.target)
                numbers = element_values(tensor.rows()).astype(numpy.float32)
                values.setdefault(match[1] if match else "", []).append(numbers)
    return {block: _described(parts) for block, parts in values.items()}


def _described(parts: list[numpy.ndarray[tuple[int], numpy.dtype[numpy.float32]]]) -> _Block:
    numbers = numpy.concatenate(parts)
    return _Block(len(parts), float((numbers < 0).mean()), float(numpy.median(numbers)))


def _problem(blocks: list[_Block]) -> str | None:
    """Return what is wrong with the norms of blocks, None if nothing is."""
    inner = [block for block in blocks if block.norms > 1] or blocks
    shifted = [block for block in inner if block.may_be_shifted]
    others = [block for block in inner if not block.may_be_shifted]
    if shifted and not others and all(block.near_one or block.norms >= MANY_NORMS for block in inner):
        return (
            "the norms seem to have 1 added already, as exports for some runtimes do "
            f"(below zero: {max(block.below_zero for block in inner):.1%} of the numbers of a block at most): "
            "--norms shifted takes them as they are, --norms plain adds 1 anyway"
        )
    if shifted and others and _two_kinds(shifted, others):
        return (
            f"the norms of {len(shifted)} of {len(inner)} blocks seem to have 1 added already, those of the others not: the "
            "checkpoint is mixed up; convert the original (--norms plain adds 1 to all of them)"
        )
    return None


def _two_kinds(shifted: list[_Block], others: list[_Block]) -> bool:
    """Tell whether the blocks fall into two kinds, around 1 and around 0, with nothing between."""
    highest, lowest = max(block.median for block in others), min(block.median for block in shifted)
    plain = all(abs(block.median) < NEAR_ONE[0] and block.below_zero > FEW_BELOW_ZERO for block in others)
    return plain and all(block.near_one for block in shifted) and lowest - highest > NEAR_ONE[0]
