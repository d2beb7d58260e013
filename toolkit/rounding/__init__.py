"""Better quant blocks of the same types: rounding that knows how the inputs of a weight matrix move together."""
