"""HQQ: `W_q` holds groups of weights as rows (axis 1) or as columns (axis 0), with `scale` and `zero` for each group.

w = (q - zero) * scale, over the weight reshaped to [groups, group size] or [group size, groups]. The rows of that matrix
are cut into as many parts as a byte holds codes (10 to a 32-bit word for 3 bits), which lie above each other, the first part highest.
"""

from dataclasses import dataclass
from typing import Any

import numpy
from numpy.typing import NDArray

from toolkit.errors import CheckpointError
from toolkit.quantized_sources.numbers import Floats, Numbers
from toolkit.quantized_sources.quantized_format import DecodedTensors, DequantizedTensor, Parts, QuantizedFormat

_PARTS = {8: 1, 4: 2, 3: 10, 2: 4, 1: 8}
"""bits -> codes that a byte or word holds"""
_PARAMETERS = (
    "nbits", "group_size", "shape", "axis", "packing", "unpack_view_dtype", "view_as_float", "quant_scale", "quant_zero",
    "compute_dtype", "offload_meta", "encoded_state_dict", "stores_quant_config", "channel_wise", "optimize", "round_zero",
)  # fmt: skip


@dataclass(frozen=True)
class _HqqMatrix:
    packed: NDArray[Any]
    """[rows of the grouped matrix / parts, columns of it]"""
    bits: int
    scales: Numbers
    zeros: Numbers
    by_row: bool
    """whether a row of the grouped matrix is a group"""
    row_length: int

    def values(self, start: int, stop: int) -> Floats:
        """Return float32 [stop - start, row length]."""
        row, column = numpy.divmod(numpy.arange(start * self.row_length, stop * self.row_length), self.packed.shape[1])
        part, row_of_part = numpy.divmod(row, len(self.packed))
        shifts = (_PARTS[self.bits] - 1 - part) * self.bits
        codes = (self.packed[row_of_part, column] >> shifts) & (2**self.bits - 1)
        group = row if self.by_row else column
        weights: Floats = (codes.astype(numpy.float32) - self.zeros.floats(group)) * self.scales.floats(group)
        return weights.reshape(stop - start, self.row_length)


def decode_hqq(parts: Parts) -> DecodedTensors:
    """Return the tensors of an HQQ checkpoint.

    Raises CheckpointError for bits or a layout that are not read, or an incomplete set.
    """
    decoded: dict[str, DequantizedTensor] = {}
    dropped: dict[str, str] = {}
    for module in parts.modules(".W_q"):
        decoded[f"{module}.weight"] = _decode_module(parts, module)
        names = (f"{module}.{parameter}" for parameter in _PARAMETERS)
        dropped |= {name: "parameters of the quantization" for name in names if name in parts.tensors}
    return DecodedTensors(decoded, dropped)


def _decode_module(parts: Parts, module: str) -> DequantizedTensor:
    packed = parts.require_matrix(f"{module}.W_q", module, ("U8", "I32"))
    bits, size, axis = (_integer(parts, module, name) for name in ("nbits", "group_size", "axis"))
    refused = [name for name in ("view_as_float", "quant_scale", "quant_zero") if _is_set(parts, f"{module}.{name}")]
    if bits not in _PARTS or axis not in (0, 1) or refused:
        raise parts.declaration.refusal(f"with {bits} bits on axis {axis} {' '.join(refused)}".rstrip(), module)
    shape = parts.require_shape(parts.require(f"{module}.shape", packed.name), (2,)).bits.astype(numpy.int64).tolist()
    count = shape[0] * shape[1]
    if min(shape) < 1 or size < 1 or count % size:
        raise CheckpointError(f"{module}: a weight of {shape} is not a whole number of groups of {size}")
    rows, columns = (count // size, size) if axis == 1 else (size, count // size)
    parts.require_shape(packed, (-(-rows // _PARTS[bits]), columns))
    scales, zeros = (parts.require(f"{module}.{name}", packed.name) for name in ("scale", "zero"))
    for numbers in (scales, zeros):
        parts.require_shape(numbers, (rows, 1) if axis == 1 else (1, columns))
    matrix = _HqqMatrix(packed.bits, bits, scales.reshaped(-1), zeros.reshaped(-1), axis == 1, shape[1])
    names = tuple(f"{module}.{name}" for name in ("W_q", "scale", "zero"))
    return parts.tensor(f"{module}.weight", (shape[0], shape[1]), matrix.values, names)


def _integer(parts: Parts, module: str, name: str) -> int:
    stored = parts.require(f"{module}.{name}", f"{module}.W_q")
    if stored.bits.size != 1 or stored.bits.dtype.kind not in "iu":
        raise CheckpointError(f"{stored.name} is {stored.dtype} {list(stored.shape)}, expected one integer")
    return int(stored.bits.reshape(-1)[0])


def _is_set(parts: Parts, name: str) -> bool:
    stored = parts.get(name)
    return stored is not None and bool(stored.bits.any())


HQQ = QuantizedFormat(names=("hqq",), decode=decode_hqq, library="HQQ", endings=(".W_q",))
