"""What it costs to round weights again that their source has rounded already, measured on a sample of their rows."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy

from toolkit.conversion.convert import converted_rows
from toolkit.conversion.tensor_plan import ConversionPlan, TensorPlan
from toolkit.gguf.ggml_types import TensorType
from toolkit.gguf.rows import sampled_runs
from toolkit.llama import quantizer
from toolkit.model_source import ModelSource, SourceTensor
from toolkit.units import format_count

NEGLIGIBLE = 1e-3
"""A relative error below this is that of 16-bit floats."""
ROUNDED_BITS = 8.0
"""Blocks of fewer bits per weight than this have lost enough for their rounding to be worth a word; those of Q8_0 have not."""


@dataclass(frozen=True)
class SecondRounding:
    """The tensors that are rounded a second time, and how far that moves their weights."""

    n_tensors: int
    source_types: tuple[str, ...]
    """what they are stored as, the most frequent first"""
    types: tuple[str, ...]
    """what they become, the most frequent first"""
    n_rows: int
    relative_error: float
    """root mean square of the differences over that of the weights, of all sampled rows"""
    avoidable: bool
    """whether GGUF has the grid of any of them"""


def second_rounding_message(source: ModelSource, plan: ConversionPlan) -> str | None:
    """Return a line that says what the second rounding costs, and how to avoid it; None if there is none."""
    found = second_rounding(source, plan)
    if found is None:
        return None
    keep = "--profile keep avoids it, and " if found.avoidable else ""
    return (
        f"the source is quantized already ({source.quantization or ', '.join(found.source_types)}): a second rounding of {found.n_tensors} tensors, to "
        f"{', '.join(found.types)}, moves their weights by {found.relative_error:.1%} (relative RMS, measured on "
        f"{format_count(found.n_rows)} rows); {keep}the original in bf16 or f16 gives a better file"
    )


def second_rounding(source: ModelSource, plan: ConversionPlan) -> SecondRounding | None:
    """Return what the second rounding does; None if there is none, or it is negligible."""
    by_name = {tensor.name: tensor for tensor in source.tensors}
    twice = [planned for planned in plan.tensors if _rounds_again(by_name[planned.name], planned)]
    if not twice:
        return None
    quantizer.prepare({planned.type for planned in twice})
    rows, square, length = (sum(values) for values in zip(*map(_moved, twice), strict=True))
    error = math.sqrt(square / length) if length else 0.0
    if error < NEGLIGIBLE:
        return None
    types = _most_frequent(planned.type for planned in twice)
    stored = _most_frequent(planned.source.type for planned in twice)
    avoidable = any(by_name[planned.name].blocks() is not None for planned in twice)
    return SecondRounding(len(twice), stored, types, int(rows), error, avoidable)


def _most_frequent(types: Iterable[TensorType]) -> tuple[str, ...]:
    return tuple(name for name, _ in Counter(type_.name for type_ in types).most_common())


def _rounds_again(tensor: SourceTensor, planned: TensorPlan) -> bool:
    stored = tensor.source.type
    rounded = tensor.packed_bytes is not None or (stored.quantized and stored.bits_per_weight < ROUNDED_BITS)
    return rounded and planned.worst_difference is None and planned.type is not stored


def _moved(planned: TensorPlan) -> tuple[int, float, float]:
    """Return the sampled rows, the sum of squared differences, and that of squared weights."""
    rows, square, length = 0, 0.0, 0.0
    for start, stop in sampled_runs(planned.name, planned.shape):
        before = quantizer.to_float32(planned.source.read_rows(start, stop), planned.source.type)
        after = quantizer.to_float32(converted_rows(planned, start, stop, allow_nan=True), planned.type)
        rows += stop - start
        square += float(numpy.square(after - before, dtype=numpy.float64).sum())
        length += float(numpy.square(before, dtype=numpy.float64).sum())
    return rows, square, length
