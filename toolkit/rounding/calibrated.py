"""Round rows of weights to quant blocks whose errors compensate each other, as far as the type allows.

Columns are taken in runs from left to right: ggml's own search gives the scales of a run, its codes are
chosen one after the other, and their errors are passed on to the columns after them (GPTQ). Then coordinate descent changes
every field for as long as that lowers the loss. The bytes are ordinary quant blocks of the type.
"""

from dataclasses import dataclass, replace

import numpy
from numpy.typing import NDArray

from toolkit.gguf.ggml_types import TensorType
from toolkit.gguf.rows import Bytes
from toolkit.kernels.compensation import Grid, Rows, Run, compensate, descend
from toolkit.kernels.quant_fields import QuantFields, QuantFormat, joined, sub_block_values, values_of
from toolkit.kernels.quant_formats import FORMATS
from toolkit.llama import quantizer
from toolkit.rounding.quadratic_form import QuadraticForm

Floats = NDArray[numpy.float32]

COLUMNS = 256
"""columns of a run: those of a quant block of most types; their part of the form fits in the L2 cache"""


@dataclass(frozen=True)
class Effort:
    """How long to search."""

    scale_rounds: int = 3
    """searches for the scales of a run of columns, each on the weights as compensated before"""
    passes: int = 4
    """passes of coordinate descent over all columns"""
    sweeps: int = 2
    """sweeps over a run of columns in each pass"""
    least_gain: float = 1e-4
    """share of the loss that a pass must gain, or it is the last"""


def round_rows(weights: Floats, type_: TensorType, form: QuadraticForm, effort: Effort | None = None) -> Bytes:
    """Return uint8 [n, row bytes] of a type for float32 [n, row length], at a low loss under `form`."""
    effort = effort or Effort()
    format_ = FORMATS[type_.name]
    parts = _compensated(weights, type_, form, effort.scale_rounds)
    _go_downhill(weights, format_, parts, form, effort)
    return format_.put_together(parts)


def _compensated(weights: Floats, type_: TensorType, form: QuadraticForm, rounds: int) -> QuantFields:
    left = weights.astype(numpy.float32)
    done = []
    for start in range(0, left.shape[1], COLUMNS):
        stop = min(start + COLUMNS, left.shape[1])
        spread = numpy.ascontiguousarray(form.spread[start:stop, start:stop])
        run = numpy.ascontiguousarray(left[:, start:stop])
        parts, errors = _compensated_run(run, type_, spread, form.importance[start:stop], rounds)
        done.append(parts)
        if stop < left.shape[1]:
            left[:, stop:] -= errors @ form.spread[start:stop, stop:]
    return joined(done)


def _compensated_run(
    weights: Floats, type_: TensorType, spread: Floats, importance: Floats, rounds: int
) -> tuple[QuantFields, Floats]:
    """Return the fields of some columns, the best of several searches for each row, and the errors to pass on."""
    format_ = FORMATS[type_.name]
    grid = _grid(format_)
    searched = weights
    best: tuple[QuantFields, Floats] | None = None
    for _ in range(rounds):
        parts = format_.take_apart(quantizer.from_float32(searched, type_, importance))
        scales, minima = sub_block_values(format_, parts)
        searched = weights.copy()
        codes, errors = compensate(searched, spread, scales, minima, grid)
        parts = replace(parts, codes=codes)
        if best is None:
            best = parts, errors
        else:
            better = _row_losses(errors) < _row_losses(best[1])
            best[0].put(better, parts)
            best[1][better] = errors[better]
    assert best is not None
    return best


def _row_losses(errors: Floats) -> Floats:
    losses: Floats = numpy.einsum("ij,ij->i", errors, errors)
    return losses


def _go_downhill(
    weights: Floats, format_: QuantFormat, parts: QuantFields, form: QuadraticForm, effort: Effort
) -> None:
    """Lower the loss of fields in place."""
    errors = values_of(format_, parts) - weights
    grid = _grid(format_)
    rows = Rows(parts.d, parts.dmin, parts.scales, parts.minima, parts.codes, errors)
    loss = form.loss(errors)
    for _ in range(effort.passes):
        gained = 0.0
        for start in range(0, weights.shape[1], COLUMNS):
            stop = min(start + COLUMNS, weights.shape[1])
            gradients = (errors @ form.matrix[:, start:stop]).astype(numpy.float32, copy=False)
            local = numpy.ascontiguousarray(form.matrix[start:stop, start:stop])
            gained += descend(rows, grid, Run(start, local, gradients), effort.sweeps)
        if gained <= effort.least_gain * loss:
            return
        loss -= gained


def _grid(format_: QuantFormat) -> Grid:
    return Grid(
        numpy.array(format_.levels, numpy.float32),
        format_.is_linear,
        format_.block_length,
        format_.group_length,
        *format_.scale_range,
        format_.largest_minimum,
    )
