"""The requantization error: what it costs to quantize weights that the source has quantized already, measured on sampled rows."""

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
"""Types of fewer bits per weight than this have lost enough for requantization to be worth a warning; Q8_0 has not."""


@dataclass(frozen=True)
class Requantization:
    """The tensors that are quantized a second time, and the error that this adds."""

    n_tensors: int
    source_types: tuple[str, ...]
    """what they are stored as, the most frequent first"""
    types: tuple[str, ...]
    """what they become, the most frequent first"""
    n_rows: int
    relative_error: float
    """root mean square of the differences over that of the weights, of all sampled rows"""
    avoidable: bool
    """whether any of them could be kept, because GGUF has a type for its quant blocks"""


def requantization_warning(source: ModelSource, plan: ConversionPlan) -> str | None:
    """Return a line that says what requantization costs and how to avoid it; None if nothing is requantized."""
    again = measure_requantization(source, plan)
    if again is None:
        return None
    keep = "--profile keep avoids it, and " if again.avoidable else ""
    return (
        f"the source is quantized already ({source.quantization or ', '.join(again.source_types)}): requantizing "
        f"{again.n_tensors} tensors to {', '.join(again.types)} adds an error of {again.relative_error:.1%} (relative RMS, "
        f"measured on {format_count(again.n_rows)} rows); {keep}the original in bf16 or f16 gives a better file"
    )


def measure_requantization(source: ModelSource, plan: ConversionPlan) -> Requantization | None:
    """Return the requantization error of a plan; None if nothing is requantized, or the error is negligible."""
    by_name = {tensor.name: tensor for tensor in source.tensors}
    requantized = [planned for planned in plan.tensors if _is_requantized(by_name[planned.name], planned)]
    if not requantized:
        return None
    quantizer.prepare({planned.type for planned in requantized})
    rows, square, length = (sum(values) for values in zip(*map(_error_sums, requantized), strict=True))
    error = math.sqrt(square / length) if length else 0.0
    if error < NEGLIGIBLE:
        return None
    types = _most_frequent(planned.type for planned in requantized)
    stored = _most_frequent(planned.source.type for planned in requantized)
    avoidable = any(by_name[planned.name].blocks() is not None for planned in requantized)
    return Requantization(len(requantized), stored, types, int(rows), error, avoidable)


def _most_frequent(types: Iterable[TensorType]) -> tuple[str, ...]:
    return tuple(name for name, _ in Counter(type_.name for type_ in types).most_common())


def _is_requantized(tensor: SourceTensor, planned: TensorPlan) -> bool:
    stored = tensor.source.type
    was_quantized = tensor.packed_bytes is not None or (stored.quantized and stored.bits_per_weight < ROUNDED_BITS)
    return was_quantized and not planned.kept and planned.type is not stored


def _error_sums(planned: TensorPlan) -> tuple[int, float, float]:
    """Return the sampled rows, the sum of squared differences, and that of squared weights."""
    rows, square, length = 0, 0.0, 0.0
    for start, stop in sampled_runs(planned.name, planned.shape):
        before = quantizer.to_float32(planned.source.read_rows(start, stop), planned.source.type)
        after = quantizer.to_float32(converted_rows(planned, start, stop, allow_nan=True), planned.type)
        rows += stop - start
        square += float(numpy.square(after - before, dtype=numpy.float64).sum())
        length += float(numpy.square(before, dtype=numpy.float64).sum())
    return rows, square, length
