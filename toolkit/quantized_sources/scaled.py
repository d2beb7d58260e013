"""Weights of one byte, FP8 or int8, multiplied by the scale of their tile."""

from dataclasses import dataclass

from toolkit.quantized_sources.numbers import Floats, Numbers
from toolkit.quantized_sources.tiles import Tiles


@dataclass(frozen=True)
class ScaledWeights:
    """w = (code - zero of its tile) * scale of its tile, in float32."""

    codes: Numbers
    scales: Tiles
    zeros: Tiles | None = None

    def values(self, start: int, stop: int) -> Floats:
        """Return float32 [stop - start, row length]."""
        row_length = self.codes.shape[-1]
        weights = self.codes.reshaped(-1, row_length).floats(slice(start, stop))
        if self.zeros is not None:
            weights = weights - self.zeros.rows(start, stop)
        return weights * self.scales.rows(start, stop)
