"""Rounding to what a weight would have given, had its input not been changed by the quantized layers before it.

With W the weights, x the input of the original and z that of the quantized model, the bytes V that lower |W x - V z|^2 are
those closest, under H = mean of z z^T, to W + W C H^-1 with C = mean of (x - z) z^T.
Source: GPTAQ (Li et al., 2025), which calls this asymmetric calibration.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy
from numpy.typing import NDArray

from toolkit.gguf.ggml_types import TensorType
from toolkit.gguf.rows import Bytes
from toolkit.llama import quantizer
from toolkit.rounding.calibrated import round_rows
from toolkit.rounding.quadratic_form import QuadraticForm, damped
from toolkit.rounding.row_rounding import best_damping

Floats = NDArray[numpy.float32]
Doubles = NDArray[numpy.float64]
WEIGHTS_PER_RUN = 1 << 18


@dataclass(frozen=True)
class Inputs:
    """Moments of the inputs of one matrix: `second` is H, `shift` is C, both float64 [n, n]."""

    second: Doubles = field(repr=False)
    shift: Doubles | None = field(repr=False)
    """None where both models have the same input"""
    tokens: int = 0
    """how many they are the means of"""

    def form(self, damping: float) -> QuadraticForm:
        """Return the form of H, with a share of its mean diagonal added."""
        return damped(self.second, damping)

    def targets(self, weights: Floats, form: QuadraticForm) -> Floats:
        """Return float32 [rows, n], the weights that would undo what the layers before have changed."""
        if self.shift is None:
            return weights
        correction = numpy.linalg.solve(form.matrix.astype(numpy.float64), self.shift.T).T
        return (weights + weights @ correction.astype(numpy.float32)).astype(numpy.float32, copy=False)

    def loss(self, weights: Floats, rounded: Floats) -> float:
        """Return the mean square error of the output, less what no rounding can change."""
        errors = (rounded - weights).astype(numpy.float64)
        own = float(numpy.einsum("ij,ij->", errors @ self.second, errors))
        if self.shift is None:
            return own
        return own - 2 * float(numpy.einsum("ij,ij->", errors @ self.shift.T, weights.astype(numpy.float64)))


@dataclass(frozen=True)
class Choice:
    """How a matrix is rounded, as text that was held out advises."""

    damping: float | None
    """share of the mean diagonal that is added to H; None where ggml's own bytes are kept"""
    gain: float
    """how far the loss falls below that of ggml's bytes, as a share of what these cost without earlier layers"""


def choose_damping(sample: Floats, type_: TensorType, fitted: Inputs, held_out: Inputs, least: float = 0.0) -> Choice:
    """Choose by the loss of some rows float32 [rows, n] on held-out text, rounded by the moments of the other text."""
    plain = _plain(sample, type_, fitted)
    reference = held_out.loss(sample, plain)
    own = max(Inputs(held_out.second, None).loss(sample, plain), float(numpy.finfo(numpy.float64).tiny))

    def loss(damping: float) -> float:
        form = fitted.form(damping)
        tried = round_rows(fitted.targets(sample, form), type_, form)
        return held_out.loss(sample, quantizer.to_float32(tried, type_))

    damping, best = best_damping(loss, reference, least)
    return Choice(damping, (reference - best) / own)


def round_matrix(
    weights: Floats, type_: TensorType, inputs: Inputs, damping: float | None, pool: ThreadPoolExecutor
) -> Bytes:
    """Return uint8 [rows, row bytes] for float32 [rows, n]; None for damping gives ggml's own bytes.

    Rows are taken in runs of one length, so that the bytes do not depend on how many threads there are.
    """
    form = inputs.form(damping or 0.0)
    targets = weights if damping is None else inputs.targets(weights, form)
    importance, _ = form.importance, damping is not None and form.spread
    step = max(1, WEIGHTS_PER_RUN // weights.shape[1])

    def rounded(start: int) -> Bytes:
        rows = targets[start : start + step]
        return quantizer.from_float32(rows, type_, importance) if damping is None else round_rows(rows, type_, form)

    return numpy.concatenate(list(pool.map(rounded, range(0, len(targets), step))))


def _plain(weights: Floats, type_: TensorType, inputs: Inputs) -> Floats:
    importance = inputs.form(0.0).importance
    return quantizer.to_float32(quantizer.from_float32(weights, type_, importance), type_)
