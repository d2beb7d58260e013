"""AWQ, version "gemm", 4 bits: `qweight` and `qzeros` pack outputs, eight to a word in the order 0 2 4 6 1 3 5 7.

w[o, i] = scales[g, o] * (q[i, o] - zero[g, o]), g = i / group size.
"""

from dataclasses import dataclass, replace

import numpy
from numpy.typing import NDArray

from toolkit.errors import CheckpointError
from toolkit.quantized_sources.layouts import GroupedMatrix
from toolkit.quantized_sources.numbers import Codes, unpack_word_columns
from toolkit.quantized_sources.quantized_format import (
    FLOATS,
    WORDS,
    DecodedTensors,
    DequantizedTensor,
    Parts,
    QuantizedFormat,
)

BITS = 4
PER_WORD = 8
_SHIFTS = (0, 16, 4, 20, 8, 24, 12, 28)
"""where the codes of outputs 0, 1, … 7 of a word lie"""
_SUFFIXES = (".qweight", ".qzeros", ".scales")


@dataclass(frozen=True)
class _PackedOutputs:
    words: NDArray[numpy.int32]

    def read(self, start: int, stop: int) -> Codes:
        """Return uint8 [rows, stop - start]."""
        first = start // PER_WORD
        read = unpack_word_columns(self.words[:, first : -(-stop // PER_WORD)], _SHIFTS, BITS)
        return read[:, start - first * PER_WORD : stop - first * PER_WORD]


def decode_awq(parts: Parts) -> DecodedTensors:
    """Return the tensors of an AWQ checkpoint.

    Raises CheckpointError for a variant that is not read, an incomplete set, or shapes that contradict each other.
    """
    declaration = parts.declaration
    first = next(parts.modules(".qweight"), None)
    version = str(declaration.settings.get("version") or "gemm").lower()
    if version != "gemm":
        raise declaration.refusal(f"of version {version!r}", first)
    return DecodedTensors({f"{module}.weight": _decode_module(parts, module) for module in parts.modules(".qweight")})


def _decode_module(parts: Parts, module: str) -> DequantizedTensor:
    effective = parts.declaration.of_module(module)
    bits, group_size = effective.integer("bits", "w_bit"), effective.integer("group_size", "q_group_size")
    if bits != BITS:
        raise effective.refusal(f"with {bits} bits", module)
    qweight = parts.require_matrix(f"{module}.qweight", module, WORDS)
    scales = parts.require_matrix(f"{module}.scales", qweight.name, FLOATS)
    qzeros = parts.require_matrix(f"{module}.qzeros", qweight.name, WORDS)
    inputs, words = qweight.shape
    size = group_size if group_size > 0 else inputs
    if scales.shape != (-(-inputs // size), words * PER_WORD):
        raise CheckpointError(
            f"{scales.name} has shape {list(scales.shape)}, but {inputs} inputs in groups of {size} "
            f"need {[-(-inputs // size), words * PER_WORD]}: AWQ of another group size or version"
        )
    parts.require_shape(qzeros, (len(scales.bits), words))
    matrix = GroupedMatrix(
        _PackedOutputs(qweight.bits).read,
        _PackedOutputs(qzeros.bits).read,
        0,
        scales,
        numpy.arange(inputs) // size,
    )
    names = tuple(module + suffix for suffix in _SUFFIXES)
    tensor = parts.tensor(f"{module}.weight", (words * PER_WORD, inputs), matrix.values, names)
    return replace(tensor, grid=matrix.grid(BITS))


AWQ = QuantizedFormat(
    names=("awq",),
    decode=decode_awq,
    library="AWQ",
    endings=(".qweight", ".qzeros", ".scales"),
    file="quant_config.json",
)
