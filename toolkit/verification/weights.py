"""Whether the weights of a file are those of its source, within the error that their type allows.

The allowance of a row is measured, not assumed: the source's row is rounded to the same type once more, and the file's
row may be SLACK times as far from the source as that. A row in the wrong place, a swapped expert or a norm that lacks
its 1 is an order of magnitude further away.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy

from toolkit.conversion.tensor_plan import CALIBRATED, ROUNDING
from toolkit.gguf.format import EMBEDDING, OUTPUT
from toolkit.gguf.ggml_types import F32, FLOAT_TYPES, TensorType
from toolkit.gguf.reader import GgufFile
from toolkit.gguf.rows import RowSource, all_runs, sampled_runs
from toolkit.llama import quantizer
from toolkit.machine.host import physical_cores
from toolkit.model_source import ModelSource, SourceTensor
from toolkit.quant_profile.weight_types import NEED_IMATRIX, WEIGHT_TYPES
from toolkit.verification.check import Check, judged, listed, unknown

SLACK, CALIBRATED_SLACK = 2.0, 4.0
"""An importance matrix, or another search, trades the error of some weights for that of others; calibrated rounding, which
makes up for errors within a row, trades more (up to 2.1 times on the demo model)."""
MOST = 0.9
"""No row may be further from the source, relative to its length: a row of zeros is 1 away, an unrelated one 1.4."""
EXACT, SCALE_ROUNDING = 1e-6, 2.0**-11
"""Relative errors that always pass: of another processor's arithmetic, and of a scale or minimum in float16."""


@dataclass(frozen=True)
class Deviation:
    """How far the sampled rows of a tensor are from the source."""

    name: str
    type: TensorType
    n_rows: int
    relative_error: float
    """root mean square of the differences over that of the weights, of all sampled rows"""
    excess: float
    """the largest error of a row over what it may be; above 1 is too far"""
    worst_row: int
    finite: bool


def check_weights(
    source: ModelSource, file: GgufFile, *, full: bool = False, progress: Callable[[int], None] = lambda _tensors: None
) -> Iterator[Check]:
    """Yield the checks `weights` and `finite`, on a sample of the rows of every tensor or on all of them."""
    pairs = [
        (tensor, file.tensors[tensor.name])
        for tensor in (*source.tensors, *tied_output(source))
        if tensor.name in file.tensors and file.tensors[tensor.name].shape == tensor.shape
    ]
    comparable = [(tensor, stored) for tensor, stored in pairs if stored.type.name in WEIGHT_TYPES]
    quantizer.prepare({stored.type for _, stored in comparable})
    rounding = file.metadata.get(ROUNDING)
    slack = CALIBRATED_SLACK if rounding is not None and rounding.value == CALIBRATED else SLACK
    with ThreadPoolExecutor(physical_cores(), thread_name_prefix="verify") as pool:
        deviations = []
        for deviation in pool.map(lambda pair: measure_deviation(*pair, full=full, slack=slack), comparable):
            deviations.append(deviation)
            progress(1)
    yield _weights_check(deviations, [tensor.name for tensor, stored in pairs if stored.type.name not in WEIGHT_TYPES])
    yield _finite_check(deviations)


def tied_output(source: ModelSource) -> tuple[SourceTensor, ...]:
    """Return the output projection that some converters write although it is tied to the embedding; empty if it is not tied."""
    by_name = {tensor.name: tensor for tensor in source.tensors}
    if OUTPUT in by_name or EMBEDDING not in by_name:
        return ()
    return (SourceTensor(OUTPUT, by_name[EMBEDDING].source),)


def measure_deviation(
    tensor: SourceTensor, stored: RowSource, *, full: bool = False, slack: float = SLACK
) -> Deviation:
    """Return how far a stored tensor is from the source's, on a sample of its rows or on all."""
    rows, square, length, excess, worst, finite = 0, 0.0, 0.0, 0.0, 0, True
    for start, stop in all_runs(tensor.shape) if full else sampled_runs(tensor.name, tensor.shape):
        run = _compare(tensor.source, stored, start, stop, slack)
        rows, square, length = rows + stop - start, square + run.square, length + run.length
        finite = finite and run.finite
        if run.excess > excess:
            excess, worst = run.excess, start + run.worst
    return Deviation(
        tensor.name, stored.type, rows, math.sqrt(square / length) if length else 0.0, excess, worst, finite
    )


@dataclass(frozen=True)
class _Run:
    square: float
    """sum of squared differences"""
    length: float
    """sum of squared weights"""
    excess: float
    worst: int
    finite: bool


def _compare(source: RowSource, stored: RowSource, start: int, stop: int, slack: float) -> _Run:
    expected = quantizer.to_float32(source.read_rows(start, stop), source.type)
    found = quantizer.to_float32(stored.read_rows(start, stop), stored.type)
    finite = bool(numpy.isfinite(found).all())
    if not finite or not numpy.isfinite(expected).all():
        same = numpy.array_equal(expected, found, equal_nan=True)
        return _Run(0.0, 0.0, 0.0 if same else math.inf, 0, finite)
    error, own, length = (
        numpy.linalg.norm(values.astype(numpy.float64), axis=1)
        for values in (found - expected, _rounded(expected, stored.type) - expected, expected)
    )
    smallest = EXACT if stored.type in FLOAT_TYPES else SCALE_ROUNDING
    allowed = numpy.minimum(slack * own, numpy.maximum(own, MOST * length)) + smallest * length
    excess = numpy.divide(error, allowed, out=numpy.where(error > 0, numpy.inf, 0.0), where=allowed > 0)
    return _Run(float((error**2).sum()), float((length**2).sum()), float(excess.max()), int(excess.argmax()), True)


def _rounded(values: quantizer.Floats, type_: TensorType) -> quantizer.Floats:
    """Return the values after a rounding to the type, with equal importance where the type needs a matrix."""
    if type_ is F32:
        return values
    importance = numpy.ones(values.shape[1], numpy.float32) if type_.name in NEED_IMATRIX else None
    contiguous = numpy.ascontiguousarray(values)
    return quantizer.to_float32(quantizer.from_float32(contiguous, type_, importance), type_)


def _weights_check(deviations: list[Deviation], skipped: list[str]) -> Check:
    if not deviations:
        return unknown("weights", "each row within what its type allows", "there is no tensor to compare")
    far = sorted(
        (deviation for deviation in deviations if deviation.excess > 1), key=lambda deviation: -deviation.excess
    )
    n_rows = sum(deviation.n_rows for deviation in deviations)
    evidence = f"{n_rows:,} rows of {len(deviations)} tensors, relative error {_by_type(deviations)}"
    if far:
        named = [
            f"{deviation.name} (row {deviation.worst_row}, {deviation.excess:.3g} times too far)" for deviation in far
        ]
        evidence = f"{listed(named)}; {evidence}"
    if skipped:
        evidence += f"; not compared: {listed(skipped)}"
    observed = f"{len(far)} tensors too far" if far else "all rows"
    return judged("weights", not far, "each row within what its type allows", observed, evidence)


def _by_type(deviations: Iterable[Deviation]) -> str:
    worst: dict[str, float] = {}
    for deviation in deviations:
        worst[deviation.type.name] = max(worst.get(deviation.type.name, 0.0), deviation.relative_error)
    return ", ".join(f"{name} at most {error:.2g}" for name, error in worst.items())


def _finite_check(deviations: list[Deviation]) -> Check:
    bad = [deviation.name for deviation in deviations if not deviation.finite]
    n_rows = sum(deviation.n_rows for deviation in deviations)
    return judged("finite", not bad, "no NaN and no infinity", listed(bad) or "none", f"in {n_rows:,} rows")
