"""How much errors count where there is an importance matrix.

Source: `quantize_row_q4_K_impl` and `quantize_row_iq4_nl_impl` in ggml/src/ggml-quants.c of llama.cpp.
"""

import numpy

from toolkit.kernels.compiling import ZERO, Floats, compiled


def error_weights(values: Floats, importance: Floats | None, block: int) -> Floats:
    """Return float32 [n, row length] for as many values: the importance of the column times a magnitude; nothing without.

    The magnitude is the root of the square of the value and twice the mean of those of its block.
    """
    if importance is None:
        return numpy.empty((0, values.shape[1]), numpy.float32)
    weights = numpy.empty_like(values)
    shape = (len(values), -1, block)
    _weigh(values.reshape(shape), importance.reshape(-1, block), weights.reshape(shape))
    return weights


@compiled
def _weigh(x: Floats, importance: Floats, weights: Floats) -> None:
    """Write the weights of x [rows, blocks, length], for importance [blocks, length]."""
    length = x.shape[2]
    for row in range(len(x)):
        for block in range(len(importance)):
            total = ZERO
            for i in range(length):
                total += x[row, block, i] * x[row, block, i]
            spread = numpy.float32(2.0) * total / numpy.float32(length)
            for i in range(length):
                value = x[row, block, i]
                weights[row, block, i] = importance[block, i] * numpy.sqrt(spread + value * value)
