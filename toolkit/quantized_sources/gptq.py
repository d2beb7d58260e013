"""GPTQ: `qweight` packs inputs, `qzeros` packs outputs, `scales`, and `g_idx` names the group of every input.

w[o, i] = scales[g, o] * (q[i, o] - zero[g, o]), g = g_idx[i]. Format "gptq" (v1) stores zero - 1, "gptq_v2" the zero.
A stored 15 of v1 means 16, as GPTQModel and llama.cpp's converter read it.
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy
from numpy.typing import NDArray

from toolkit.errors import CheckpointError
from toolkit.quantized_sources.layouts import GroupedMatrix
from toolkit.quantized_sources.numbers import Numbers, unpack_stream, unpack_stream_columns
from toolkit.quantized_sources.quantized_format import (
    FLOATS,
    WORDS,
    Declaration,
    DecodedTensors,
    DequantizedTensor,
    Parts,
    QuantizedFormat,
)

_ZERO_OFFSETS = {"gptq": 1, "gptq_v2": 0}
_SUFFIXES = (".qweight", ".qzeros", ".scales", ".g_idx")


@dataclass(frozen=True)
class WordFormat:
    """How a checkpoint as a whole packs its codes."""

    zero_offset: int
    """what is to be added to a stored zero, unless the zeros of a symmetric checkpoint show otherwise"""
    declared: str
    """the setting that says so, for messages"""
    bits: tuple[int, ...] = (2, 3, 4, 8)
    """widths that are read"""


@dataclass(frozen=True)
class _Layout:
    bits: int
    group_size: int
    zero_offset: int


def decode_gptq(parts: Parts) -> DecodedTensors:
    """Return the tensors of a GPTQ checkpoint.

    Raises CheckpointError for a variant that is not read, an incomplete set, or shapes that contradict each other.
    """
    settings = parts.declaration.settings
    format_ = str(settings.get("checkpoint_format") or "gptq")
    if format_ not in _ZERO_OFFSETS:
        raise parts.declaration.refusal(f"with checkpoint_format {format_!r}", next(parts.modules(".qweight"), None))
    return decode_words(parts, WordFormat(_ZERO_OFFSETS[format_], f"checkpoint_format is {format_!r}"))


def decode_words(parts: Parts, format_: WordFormat) -> DecodedTensors:
    """Return the tensors of a checkpoint laid out as GPTQ does, whatever tool wrote it.

    Raises CheckpointError as `decode_gptq` does.
    """
    format_, warnings = _with_actual_zeros(parts, format_)
    decoded = {}
    for module in parts.modules(".qweight"):
        decoded[f"{module}.weight"] = _decode_module(parts, module, _layout(parts.declaration, module, format_))
    return DecodedTensors(decoded, warnings=warnings)


def _layout(declaration: Declaration, module: str, format_: WordFormat) -> _Layout:
    effective = declaration.of_module(module)
    bits = effective.integer("bits", "w_bit")
    if bits not in format_.bits:
        raise declaration.refusal(f"with {bits} bits", module)
    return _Layout(bits, effective.integer("group_size"), format_.zero_offset)


def _with_actual_zeros(parts: Parts, format_: WordFormat) -> tuple[WordFormat, tuple[str, ...]]:
    """Return the format corrected by the zeros of the first symmetric module, with a warning if it was declared otherwise."""
    symmetric = (name for name in parts.modules(".qweight") if parts.declaration.of_module(name).settings.get("sym"))
    module = next(symmetric, None)
    if module is None:
        return format_, ()
    bits = _layout(parts.declaration, module, format_).bits
    stored = unpack_stream(parts.require_matrix(f"{module}.qzeros", f"{module}.qweight", WORDS).bits.T, bits)
    actual = 2 ** (bits - 1) - int(stored[0, 0])
    if actual == format_.zero_offset or actual not in (0, 1) or (stored != stored[0, 0]).any():
        return format_, ()
    warning = (
        f"{format_.declared}, but the zero points are those of {'gptq' if actual else 'gptq_v2'}: "
        f"symmetric at {bits} bits, all {int(stored[0, 0])}; the values count"
    )
    return replace(format_, zero_offset=actual), (warning,)


def _decode_module(parts: Parts, module: str, layout: _Layout) -> DequantizedTensor:
    qweight = parts.require_matrix(f"{module}.qweight", module, WORDS)
    scales = parts.require_matrix(f"{module}.scales", qweight.name, FLOATS)
    qzeros = parts.require_matrix(f"{module}.qzeros", qweight.name, WORDS)
    inputs, outputs = qweight.shape[0] * 32 // layout.bits, qweight.shape[-1]
    groups = _groups(parts, module, inputs, scales, layout)
    parts.require_shape(scales, (len(scales.bits), outputs))
    parts.require_shape(qzeros, (len(scales.bits), outputs * layout.bits // 32))
    matrix = GroupedMatrix(
        partial(_read_codes, qweight, layout.bits),
        partial(unpack_stream_columns, qzeros.bits, layout.bits),
        layout.zero_offset,
        scales,
        groups,
    )
    names = tuple(module + suffix for suffix in _SUFFIXES)
    tensor = parts.tensor(f"{module}.weight", (outputs, inputs), matrix.values, names)
    return replace(tensor, grid=matrix.grid(layout.bits))


def _read_codes(qweight: Numbers, bits: int, start: int, stop: int) -> NDArray[numpy.uint8]:
    return unpack_stream(qweight.bits[:, start:stop], bits)


def _groups(parts: Parts, module: str, inputs: int, scales: Numbers, layout: _Layout) -> NDArray[numpy.intp]:
    """Return the group of every input; some tools write a g_idx of zeros where the inputs are in their own order."""
    size = min(layout.group_size, inputs) if layout.group_size > 0 else inputs
    stored = parts.get(f"{module}.g_idx")
    if stored is not None and (stored.bits.any() or len(scales.bits) == 1):
        groups = parts.require_shape(stored, (inputs,)).bits.astype(numpy.intp)
    else:
        groups = numpy.arange(inputs) // size
    if groups.min() < 0 or groups.max() >= len(scales.bits):
        raise CheckpointError(
            f"{module}.qweight with {inputs} inputs of {layout.bits} bits in groups of {layout.group_size} needs groups "
            f"{groups.min()} to {groups.max()}, but {scales.name} has {len(scales.bits)}: "
            "the quantization_config does not describe this checkpoint"
        )
    return groups


GPTQ = QuantizedFormat(
    names=("gptq",),
    decode=decode_gptq,
    library="GPTQ",
    endings=(".qweight", ".qzeros", ".scales"),
    file="quantize_config.json",
)
