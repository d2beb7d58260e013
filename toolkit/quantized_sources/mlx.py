"""MLX affine groups: `weight` packs inputs into 32-bit words without gaps, `scales` and `biases` for every group.

w[o, i] = scales[o, i / group size] * q[o, i] + biases[o, i / group size].
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy

from toolkit.errors import CheckpointError
from toolkit.quantized_sources.numbers import Codes, Floats, Numbers, unpack_stream
from toolkit.quantized_sources.quantized_format import DecodedTensors, DequantizedTensor, Grid, Parts, QuantizedFormat

BITS = (2, 3, 4, 5, 6, 8)


@dataclass(frozen=True)
class _AffineMatrix:
    words: Numbers
    scales: Numbers
    biases: Numbers
    bits: int
    group_size: int

    def values(self, start: int, stop: int) -> Floats:
        """Return float32 [stop - start, columns]; leading axes are flattened."""
        codes = self._codes(start, stop).astype(numpy.float32)
        codes *= numpy.repeat(self._read(self.scales, start, stop), self.group_size, axis=1)
        weights: Floats = codes + numpy.repeat(self._read(self.biases, start, stop), self.group_size, axis=1)
        return weights

    def _codes(self, start: int, stop: int) -> Codes:
        words = self.words.reshaped(-1, self.words.shape[-1]).bits[start:stop]
        return unpack_stream(words.T, self.bits).T

    def _read(self, numbers: Numbers, start: int, stop: int) -> Floats:
        return numbers.reshaped(-1, numbers.shape[-1]).floats(slice(start, stop))

    def grid(self) -> Grid:
        """Return the integers."""
        return Grid(
            self.bits,
            self.group_size,
            self._codes,
            scales=partial(self._read, self.scales),
            minimums=partial(self._read, self.biases),
        )


def decode_mlx(parts: Parts) -> DecodedTensors:
    """Return the tensors of a checkpoint quantized by MLX.

    Raises CheckpointError for a mode or bits that are not read, or an incomplete set.
    """
    decoded = {}
    for module in parts.modules(".weight"):
        weight = f"{module}.weight"
        if parts.tensors[weight].dtype == "U32":
            decoded[weight] = _decode_module(parts, module)
    return DecodedTensors(decoded)


def _decode_module(parts: Parts, module: str) -> DequantizedTensor:
    weight = f"{module}.weight"
    settings = _settings_of(parts, module)
    mode, bits, group_size = settings.get("mode") or "affine", settings.get("bits"), settings.get("group_size")
    if mode != "affine":
        raise parts.declaration.refusal(f"in mode {mode!r}", module)
    if bits not in BITS or not isinstance(group_size, int) or group_size < 1:
        raise parts.declaration.refusal(f"with {bits} bits in groups of {group_size}", module)
    words = parts.require(weight, weight)
    if len(words.shape) < 2:
        raise CheckpointError(f"{weight} has shape {list(words.shape)}; a quantized weight has two axes or more")
    scales, biases = (parts.require(f"{module}.{name}", weight) for name in ("scales", "biases"))
    columns = words.shape[-1] * 32 // bits
    if columns * bits != words.shape[-1] * 32 or columns % group_size:
        raise CheckpointError(
            f"{weight} has {words.shape[-1]} words a row, which are not whole groups of {group_size} codes of {bits} bits"
        )
    for stored in (scales, biases):
        parts.require_shape(stored, (*words.shape[:-1], columns // group_size))
    matrix = _AffineMatrix(words, scales, biases, bits, group_size)
    names = (weight, scales.name, biases.name)
    return replace(parts.tensor(weight, (*words.shape[:-1], columns), matrix.values, names), grid=matrix.grid())


def _settings_of(parts: Parts, module: str) -> Mapping[str, Any]:
    """Return the settings of a module: its own entry, over those of all."""
    settings = parts.declaration.settings
    own = settings.get(module)
    return {**settings, **own} if isinstance(own, dict) else settings


MLX = QuantizedFormat(
    names=("mlx",),
    decode=decode_mlx,
    library="MLX",
    endings=(".scales",),
    implied_by=lambda settings: {"group_size", "bits"} <= settings.keys(),
)
