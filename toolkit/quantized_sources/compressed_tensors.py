"""compressed-tensors (llm-compressor): integers packed into words, int8 or FP8 as they are, NVFP4, MXFP4; a scheme for each group.

w = (q - zero) * scale, where packed integers are stored with 2 ** (bits - 1) added. `weight_zero_point` of packed
integers is packed along the rows; both axes may be padded. Up to version 0.17 a word held whole codes; since then codes
of 3, 5, 6 or 7 bits follow each other without gaps.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy
from numpy.typing import NDArray

from toolkit.errors import CheckpointError
from toolkit.name_patterns import name_pattern
from toolkit.pattern_syntax import PatternError
from toolkit.quantized_sources.fp4 import GROUP_BYTES, Fp4Matrix, Nvfp4Parts, RepackedRows, nvfp4_tensor
from toolkit.quantized_sources.layouts import ScaledWeights, fitting_tiles
from toolkit.quantized_sources.numbers import FLOAT8_DTYPES, Codes, Floats, Numbers, WordPacking
from toolkit.quantized_sources.quantized_format import (
    BYTES,
    FLOATS,
    WORDS,
    DecodedTensors,
    DequantizedTensor,
    Grid,
    Parts,
    QuantizedFormat,
)

PACKED, NVFP4, MXFP4 = "pack-quantized", "nvfp4-pack-quantized", "mxfp4-pack-quantized"
PLAIN = ("float-quantized", "int-quantized", "naive-quantized")
_DENSE_SINCE = (0, 18)
_PACKED_SUFFIXES = ("_packed", "_scale", "_zero_point", "_shape", "_g_idx", "_global_scale")


@dataclass(frozen=True)
class _Scheme:
    """How the weights of one group of modules are stored."""

    format: str
    strategy: str
    bits: int
    group_size: int | None
    block: tuple[int, int] | None

    @property
    def tile(self) -> tuple[int, int] | None:
        """Return the rows and columns that share a scale, None where the strategy has no numbers."""
        if self.strategy in ("group", "tensor_group") and self.group_size:
            return 1, self.group_size
        return self.block if self.strategy == "block" else None


@dataclass(frozen=True)
class _PackedMatrix:
    words: Numbers
    scales: Numbers
    zeros: Numbers | None
    packing: WordPacking
    groups: NDArray[numpy.intp]
    """[columns]: the group of each"""

    def values(self, start: int, stop: int) -> Floats:
        """Return float32 [stop - start, columns]."""
        steps = self.codes(start, stop).astype(numpy.int16) - self._zeros(start, stop)[:, self.groups]
        scales: Floats = self.scales.floats(slice(start, stop))[:, self.groups]
        scales *= steps.astype(numpy.float32)
        return scales

    def codes(self, start: int, stop: int) -> Codes:
        """Return uint8 [stop - start, columns]."""
        return self.packing.columns(self.words.bits[start:stop])[:, : len(self.groups)]

    def _zeros(self, start: int, stop: int) -> NDArray[numpy.int16]:
        """Return int16 [stop - start, groups]."""
        if self.zeros is None:
            return numpy.full((stop - start, self.scales.shape[1]), 2 ** (self.packing.bits - 1), dtype=numpy.int16)
        return self.packing.rows(self.zeros.bits, start, stop).astype(numpy.int16)

    def grid(self, group_size: int) -> Grid | None:
        """Return the integers; None where the columns of a group do not follow each other."""
        if not numpy.array_equal(self.groups, numpy.arange(len(self.groups)) // group_size):
            return None
        return Grid(
            self.packing.bits,
            group_size,
            self.codes,
            lambda start, stop: self.scales.floats(slice(start, stop)),
            self._zeros,
        )


def decode_compressed_tensors(parts: Parts) -> DecodedTensors:
    """Return the tensors of a compressed-tensors checkpoint.

    Raises CheckpointError for a format that is not read, an incomplete set, or a module that no group describes.
    """
    decoded: dict[str, DequantizedTensor] = {}
    for module in parts.modules(".weight_packed"):
        scheme = _scheme(parts, module)
        opener = {PACKED: _decode_packed, NVFP4: _decode_nvfp4, MXFP4: _decode_mxfp4}.get(scheme.format)
        if opener is None:
            raise parts.declaration.refusal(f"in format {scheme.format!r}", module)
        decoded[f"{module}.weight"] = opener(parts, f"{module}.weight", scheme)
    for module in parts.modules(".weight"):
        if parts.tensors[f"{module}.weight"].dtype in ("I8", *FLOAT8_DTYPES):
            decoded[f"{module}.weight"] = _decode_plain(parts, f"{module}.weight", _scheme(parts, module))
    for module in parts.modules(".compressed"):
        raise parts.declaration.refusal(f"in format {parts.declaration.settings.get('format')!r}", module)
    return DecodedTensors(decoded)


def _scheme(parts: Parts, module: str) -> _Scheme:
    settings = parts.declaration.settings
    group = _group_of(parts, module)
    weights = group.get("weights")
    if not isinstance(weights, dict):
        raise parts.declaration.refusal("without a scheme for weights", module)
    format_ = group.get("format") or settings.get("format")
    block, size, bits = weights.get("block_structure"), weights.get("group_size"), weights.get("num_bits")
    return _Scheme(
        format=str(format_),
        strategy=str(weights.get("strategy") or ("group" if isinstance(size, int) and size > 0 else "tensor")),
        bits=bits if isinstance(bits, int) else 0,
        group_size=size if isinstance(size, int) and 0 < size < 1 << 31 else None,
        block=_block(block),
    )


def _block(structure: object) -> tuple[int, int] | None:
    """Return the rows and columns of "128x128" or [128, 128]."""
    numbers = re.findall(r"\d{1,9}", str(structure)) if isinstance(structure, str | list) else []
    rows, columns = map(int, numbers) if len(numbers) == 2 else (0, 0)
    return (rows, columns) if rows and columns else None


def _group_of(parts: Parts, module: str) -> Mapping[str, Any]:
    """Return the group that names the module; by its name before a pattern, by a pattern before its class."""
    groups = parts.declaration.settings.get("config_groups")
    if not isinstance(groups, dict) or not all(isinstance(group, dict) for group in groups.values()):
        raise parts.declaration.refusal("without config_groups", module)
    for fits in (_is_name, _is_pattern, _is_class):
        for group in groups.values():
            if any(fits(target, module) for target in _targets(group)):
                return dict(group)
    raise CheckpointError(
        f"{module} is stored quantized, but no config_group of the compressed-tensors quantization names it: "
        "config.json does not describe this checkpoint"
    )


def _targets(group: Mapping[str, Any]) -> list[str]:
    targets = group.get("targets")
    return [target for target in targets if isinstance(target, str)] if isinstance(targets, list) else []


def _is_name(target: str, module: str) -> bool:
    return target == module or module.endswith(f".{target}")


def _is_pattern(target: str, module: str) -> bool:
    try:
        return target.startswith("re:") and name_pattern(target.removeprefix("re:")).matches_start(module)
    except PatternError as error:
        raise CheckpointError(
            f"config.json: the target {target[:80]!r} of a config_group is not a pattern ({error})"
        ) from error


def _is_class(target: str, _module: str) -> bool:
    """Tell whether a target is the class of quantized modules: the only ones that are stored so are linear."""
    return target == "Linear"


def _decode_packed(parts: Parts, weight: str, scheme: _Scheme) -> DequantizedTensor:
    if not 2 <= scheme.bits <= 8:
        raise parts.declaration.refusal(f"in format {scheme.format!r} with {scheme.bits} bits", weight)
    words = parts.require_matrix(f"{weight}_packed", weight, WORDS)
    rows, columns = _stored_shape(parts, weight)
    packing = _packing(parts, words, scheme.bits, columns)
    parts.require_shape(words, (rows, packing.n_words(columns)))
    size = scheme.group_size or columns
    scales = parts.require_matrix(f"{weight}_scale", words.name, FLOATS)
    groups = _groups(parts, weight, columns, size)
    parts.require_shape(scales, (rows, -(-columns // size)))
    zeros = None
    if f"{weight}_zero_point" in parts.tensors:
        zeros = parts.require_matrix(f"{weight}_zero_point", words.name, WORDS)
        parts.require_shape(zeros, (packing.n_words(rows), scales.shape[1]))
    matrix = _PackedMatrix(words, scales, zeros, packing, groups)
    names = tuple(weight + suffix for suffix in _PACKED_SUFFIXES)
    return replace(parts.tensor(weight, (rows, columns), matrix.values, names), grid=matrix.grid(size))


def _packing(parts: Parts, words: Numbers, bits: int, columns: int) -> WordPacking:
    """Return how the codes of a matrix are packed, by the number of its words, else by the version that wrote them."""
    whole, dense = WordPacking(bits, dense=False), WordPacking(bits, dense=True)
    if 32 % bits == 0 or whole.n_words(columns) == words.shape[1] != dense.n_words(columns):
        return whole
    if whole.n_words(columns) != words.shape[1]:
        return dense
    version = re.match(r"(\d+)\.(\d+)", str(parts.declaration.settings.get("version")))
    if version is None:
        raise parts.declaration.refusal(
            f"with {bits} bits and no version, which would say how they are packed", words.name
        )
    return dense if (int(version[1]), int(version[2])) >= _DENSE_SINCE else whole


def _groups(parts: Parts, weight: str, columns: int, size: int) -> NDArray[numpy.intp]:
    stored = parts.get(f"{weight}_g_idx")
    if stored is None:
        return numpy.arange(columns) // size
    groups = parts.require_shape(stored, (columns,)).bits.astype(numpy.intp)
    if groups.min() < 0 or groups.max() >= -(-columns // size):
        raise CheckpointError(
            f"{stored.name} names group {groups.max()}, but {columns} columns make {-(-columns // size)}"
        )
    return groups


def _stored_shape(parts: Parts, weight: str) -> tuple[int, int]:
    stored = parts.require(f"{weight}_shape", f"{weight}_packed")
    if (
        stored.shape != (2,)
        or stored.dtype not in ("I64", "I32")
        or (stored.bits < 1).any()
        or stored.bits.max() > 2**31
    ):
        raise CheckpointError(f"{stored.name} is {stored.bits.reshape(-1)[:4].tolist()}, expected [rows, columns]")
    return int(stored.bits[0]), int(stored.bits[1])


def _decode_plain(parts: Parts, weight: str, scheme: _Scheme) -> DequantizedTensor:
    if scheme.format not in PLAIN:
        raise parts.declaration.refusal(f"in format {scheme.format!r}", weight)
    if scheme.strategy not in ("tensor", "channel", "group", "block") or (
        scheme.strategy == "block" and not scheme.block
    ):
        raise parts.declaration.refusal(f"with the strategy {scheme.strategy!r}", weight)
    codes = parts.require(weight, weight)
    scales = fitting_tiles(parts, weight, f"{weight}_scale", scheme.tile)
    zero_name = f"{weight}_zero_point"
    zeros = fitting_tiles(parts, weight, zero_name, scheme.tile) if zero_name in parts.tensors else None
    matrix = ScaledWeights(codes, scales, zeros)
    return parts.tensor(weight, codes.shape, matrix.values, (weight, f"{weight}_scale", zero_name))


def _decode_nvfp4(parts: Parts, weight: str, _scheme: _Scheme) -> DequantizedTensor:
    codes = parts.require_matrix(f"{weight}_packed", weight, BYTES)
    scales = parts.require_matrix(f"{weight}_scale", codes.name, FLOATS)
    factor = parts.require(f"{weight}_global_scale", codes.name)
    return nvfp4_tensor(parts, weight, Nvfp4Parts(codes, scales, factor, divides=True))


def _decode_mxfp4(parts: Parts, weight: str, _scheme: _Scheme) -> DequantizedTensor:
    codes = parts.require_matrix(f"{weight}_packed", weight, BYTES)
    rows, groups = codes.shape[0], codes.shape[1] // GROUP_BYTES
    exponents = parts.require_matrix(f"{weight}_scale", codes.name, BYTES)
    parts.require_shape(codes, (rows, groups * GROUP_BYTES))
    parts.require_shape(exponents, (rows, groups))
    scales = replace(exponents, dtype="F8_E8M0")
    matrix = Fp4Matrix(codes, scales, numpy.float32(1), divides=False, group=2 * GROUP_BYTES)
    shape = (rows, 2 * codes.shape[1])
    blocks = RepackedRows(shape, codes.reshaped(rows, groups, GROUP_BYTES), exponents)
    return replace(parts.tensor(weight, shape, matrix.values, (codes.name, exponents.name)), blocks=blocks)


COMPRESSED_TENSORS = QuantizedFormat(
    names=("compressed-tensors",),
    decode=decode_compressed_tensors,
    library="compressed-tensors",
    endings=(".weight_packed", ".weight_scale"),
)
