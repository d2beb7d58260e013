"""What an error in a row of weights costs: the second moment of the matrix's input, made safe to divide by."""

from dataclasses import dataclass
from functools import cached_property

import numpy
from numpy.typing import NDArray

Floats = NDArray[numpy.float32]
Moments = NDArray[numpy.float64]


@dataclass(frozen=True)
class QuadraticForm:
    """H of the loss e H e^T, where e is what a row of values is off by."""

    matrix: Floats
    """float32 [n, n], symmetric, positive definite"""

    @cached_property
    def spread(self) -> Floats:
        """Return float32 [n, n], upper triangular U with H^-1 = U^T U; U[j] / U[j, j] compensates the error of column j.

        Source: GPTQ (Frantar et al., 2022), which takes the Cholesky factor of the inverse.
        """
        inverse = numpy.linalg.inv(self.matrix.astype(numpy.float64))
        return numpy.ascontiguousarray(numpy.linalg.cholesky(inverse).T.astype(numpy.float32))

    @cached_property
    def importance(self) -> Floats:
        """Return float32 [n], the diagonal: what an importance matrix says of the columns."""
        return numpy.ascontiguousarray(numpy.diag(self.matrix))

    def loss(self, errors: Floats) -> float:
        """Return the sum of e H e^T over errors [rows, n]."""
        return float(numpy.einsum("ij,ij->", errors @ self.matrix, errors, dtype=numpy.float64))


def damped(moments: Moments, damping: float) -> QuadraticForm:
    """Return a form for second moments float64 [n, n], with a share of their mean diagonal added to it.

    A short text overstates how columns move together, and columns that were always zero in it get the mean.
    """
    matrix = moments.copy()
    diagonal = numpy.einsum("ii->i", matrix)
    mean = float(diagonal.mean()) or 1.0
    diagonal[diagonal <= 0] = mean
    diagonal += damping * mean
    return QuadraticForm(matrix.astype(numpy.float32))
