"""GPTQ: `qweight` packs inputs, `qzeros` packs outputs, `scales`, and `g_idx` names the group of every input.

w[o, i] = scales[g, o] * (q[i, o] - zero[g, o]), g = g_idx[i]. Format "gptq" (v1) stores zero - 1, "gptq_v2" the zero.
A stored 15 of v1 means 16, as GPTQModel and llama.cpp's converter read it.
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy
from numpy.typing import NDArray

from toolkit.errors import CheckpointError
from toolkit.quantized_sources.declaration import Declaration
from toolkit.quantized_sources.dequantized import DequantizedTensor, Opened
from toolkit.quantized_sources.grouped import GroupedMatrix
from toolkit.quantized_sources.numbers import Numbers
from toolkit.quantized_sources.packing import unpack_stream, unpack_stream_columns
from toolkit.quantized_sources.parts import FLOATS, WORDS, Parts

_ZERO_OFFSETS = {"gptq": 1, "gptq_v2": 0}
_SUFFIXES = (".qweight", ".qzeros", ".scales", ".g_idx")


@dataclass(frozen=True)
class WordFormat:
    """What a checkpoint says of its words as a whole."""

    zero_offset: int
    """what is to be added to a stored zero; in a symmetric checkpoint the zeros themselves count more"""
    declared: str
    """the setting that says so, in words"""
    bits: tuple[int, ...] = (2, 3, 4, 8)
    """widths that are read"""


@dataclass(frozen=True)
class _Layout:
    bits: int
    group_size: int
    zero_offset: int


def open_gptq(parts: Parts) -> Opened:
    """Return the tensors of a GPTQ checkpoint.

    Raises CheckpointError for a variant that is not read, an incomplete set, or shapes that contradict each other.
    """
    settings = parts.declaration.settings
    format_ = str(settings.get("checkpoint_format") or "gptq")
    if format_ not in _ZERO_OFFSETS:
        raise parts.declaration.refusal(f"with checkpoint_format {format_!r}", next(parts.modules(".qweight"), None))
    return open_words(parts, WordFormat(_ZERO_OFFSETS[format_], f"checkpoint_format is {format_!r}"))


def open_words(parts: Parts, format_: WordFormat) -> Opened:
    """Return the tensors of a checkpoint laid out as GPTQ does, whatever tool wrote it.

    Raises CheckpointError as `open_gptq` does.
    """
    format_, warnings = _with_actual_zeros(parts, format_)
    made = {}
    for module in parts.modules(".qweight"):
        made[f"{module}.weight"] = _open_module(parts, module, _layout(parts.declaration, module, format_))
    return Opened(made, warnings=warnings)


def _layout(declaration: Declaration, module: str, format_: WordFormat) -> _Layout:
    effective = declaration.of_module(module)
    bits = effective.integer("bits", "w_bit")
    if bits not in format_.bits:
        raise declaration.refusal(f"with {bits} bits", module)
    return _Layout(bits, effective.integer("group_size"), format_.zero_offset)


def _with_actual_zeros(parts: Parts, format_: WordFormat) -> tuple[WordFormat, tuple[str, ...]]:
    """Return the format that the zeros of the first symmetric module tell of, whatever the label says, and a warning."""
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


def _open_module(parts: Parts, module: str, layout: _Layout) -> DequantizedTensor:
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
    """Return the group of every input; a g_idx of zeros only is how some tools say that the order is the plain one."""
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
