"""GPTQ: `qweight` packs inputs, `qzeros` packs outputs, `scales`, and `g_idx` names the group of every input.

w[o, i] = scales[g, o] * (q[i, o] - zero[g, o]), g = g_idx[i]. Format "gptq" (v1) stores zero - 1, "gptq_v2" the zero.
A stored 15 of v1 means 16, as GPTQModel and llama.cpp's converter read it.
"""

import re
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

BITS = (2, 3, 4, 8)
_ZERO_OFFSETS = {"gptq": 1, "gptq_v2": 0}
_SUFFIXES = (".qweight", ".qzeros", ".scales", ".g_idx")


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
    offset, warnings = _zero_offset(parts, format_)
    made = {}
    for module in parts.modules(".qweight"):
        made[f"{module}.weight"] = _open_module(parts, module, _layout(parts.declaration, module, offset))
    return Opened(made, warnings=warnings)


def _layout(declaration: Declaration, module: str, zero_offset: int) -> _Layout:
    settings = {**declaration.settings, **_override(declaration, module)}
    effective = Declaration(declaration.method, settings, declaration.file)
    bits = effective.integer("bits", "w_bit")
    if bits not in BITS:
        raise declaration.refusal(f"with {bits} bits", module)
    return _Layout(bits, effective.integer("group_size"), zero_offset)


def _override(declaration: Declaration, module: str) -> dict[str, object]:
    """Return what GPTQModel's `dynamic` says of a module: {"+:REGEX": {"bits": 8}}."""
    overrides = declaration.settings.get("dynamic") or {}
    try:
        for pattern, override in overrides.items():
            if not pattern.startswith("-:") and re.match(pattern.removeprefix("+:"), module):
                return dict(override)
    except (AttributeError, TypeError, ValueError, re.error) as error:
        raise declaration.refusal(f"with dynamic {str(overrides)[:60]!r}", module) from error
    return {}


def _zero_offset(parts: Parts, format_: str) -> tuple[int, tuple[str, ...]]:
    """Return what to add to stored zeros: in a symmetric checkpoint the zeros themselves tell, whatever the label says."""
    declared = _ZERO_OFFSETS[format_]
    module = next(parts.modules(".qweight"), None)
    if module is None or not parts.declaration.settings.get("sym", False):
        return declared, ()
    bits = _layout(parts.declaration, module, declared).bits
    stored = unpack_stream(parts.require_matrix(f"{module}.qzeros", f"{module}.qweight", WORDS).bits.T, bits)
    actual = 2 ** (bits - 1) - int(stored[0, 0])
    if actual == declared or actual not in (0, 1) or (stored != stored[0, 0]).any():
        return declared, ()
    return actual, (
        f"checkpoint_format is {format_!r}, but the zero points are those of {'gptq' if actual else 'gptq_v2'}: "
        f"symmetric at {bits} bits, all {int(stored[0, 0])}; the values count",
    )


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
