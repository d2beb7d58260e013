"""The layouts of quant blocks: which bits of ggml's bytes hold which field, for every type that is rounded by calibration.

Source: `dequantize_row_*` in ggml/src/ggml-quants.c of llama.cpp (commit 0c1e570).
"""

from collections.abc import Callable

import numpy
from numpy.typing import NDArray

from toolkit.kernels.quant_fields import Bytes, Floats, QuantFields, QuantFormat

_IQ4_LEVELS = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)


def _blocks(rows: Bytes, block_bytes: int) -> Bytes:
    return numpy.ascontiguousarray(rows).reshape(len(rows), -1, block_bytes)


def _half(stored: Bytes) -> Floats:
    """Return float32 [n, blocks] of two bytes a block."""
    return numpy.ascontiguousarray(stored).view("<f2")[..., 0].astype(numpy.float32)


def _stored(values: Floats) -> Bytes:
    return values.astype("<f2")[..., None].view(numpy.uint8)


def _flat(values: NDArray[numpy.generic]) -> NDArray[numpy.generic]:
    return values.reshape(len(values), -1)


def _fields(
    d: Floats,
    codes: Bytes,
    scales: NDArray[numpy.generic] | None = None,
    dmin: Floats | None = None,
    minima: NDArray[numpy.generic] | None = None,
) -> QuantFields:
    """Return fields with 1 for a scale that the type does not have, and 0 for a minimum."""
    whole = numpy.ones(d.shape, numpy.int32) if scales is None else _flat(scales).astype(numpy.int32)
    least = numpy.zeros_like(whole) if minima is None else _flat(minima).astype(numpy.int32)
    return QuantFields(d, numpy.zeros_like(d) if dmin is None else dmin, whole, least, _flat(codes).astype(numpy.uint8))


_FOUR_SHIFTS = numpy.array([0, 2, 4, 6], numpy.uint8)[:, None]
_EIGHT_SHIFTS = numpy.arange(8, dtype=numpy.uint8)[:, None]


def _in_quarters(low: Bytes) -> Bytes:
    """Return 2-bit codes [n, blocks, 2, 4, 32] of bytes [n, blocks, 64]: a byte holds one of each quarter of 128 weights."""
    return (low.reshape(*low.shape[:2], 2, 1, 32) >> _FOUR_SHIFTS) & 3


def _from_quarters(codes: Bytes) -> Bytes:
    quarters = codes.reshape(*codes.shape[:2], 2, 4, 32) << _FOUR_SHIFTS
    joined_bits: Bytes = numpy.bitwise_or.reduce(quarters, axis=3)
    return joined_bits.reshape(*codes.shape[:2], 64)


def _bits(stored: Bytes) -> Bytes:
    """Return the bits [n, blocks, 8, 32] of bytes [n, blocks, 32], of which each holds one of every eighth of a block."""
    return (stored[..., None, :] >> _EIGHT_SHIFTS) & 1


def _from_bits(bits: Bytes) -> Bytes:
    joined_bits: Bytes = numpy.bitwise_or.reduce(bits.reshape(*bits.shape[:2], 8, 32) << _EIGHT_SHIFTS, axis=2)
    return joined_bits


def _six_bits(stored: Bytes) -> tuple[Bytes, Bytes]:
    """Return the scales and minima [n, blocks, 8] of Q4_K and Q5_K, six bits each in 12 bytes."""
    first, second, third = stored[..., :4], stored[..., 4:8], stored[..., 8:12]
    scales = numpy.concatenate([first & 63, (third & 15) | ((first >> 6) << 4)], -1)
    minima = numpy.concatenate([second & 63, (third >> 4) | ((second >> 6) << 4)], -1)
    return scales, minima


def _from_six_bits(scales: Bytes, minima: Bytes) -> Bytes:
    first = scales[..., :4] | ((scales[..., 4:] >> 4) << 6)
    second = minima[..., :4] | ((minima[..., 4:] >> 4) << 6)
    third = (scales[..., 4:] & 15) | ((minima[..., 4:] & 15) << 4)
    return numpy.concatenate([first, second, third], -1)


def _nibbles(stored: Bytes, halves: int) -> Bytes:
    """Return 4-bit codes of runs of bytes [n, blocks, halves, k]: the low ones of a run come before the high ones."""
    runs = stored.reshape(*stored.shape[:2], halves, -1)
    return numpy.stack([runs & 15, runs >> 4], 3).reshape(*stored.shape[:2], -1)


def _from_nibbles(codes: Bytes, halves: int) -> Bytes:
    runs = codes.reshape(*codes.shape[:2], halves, 2, -1)
    return ((runs[..., 0, :] & 15) | ((runs[..., 1, :] & 15) << 4)).reshape(*codes.shape[:2], -1)


def _per_block(parts: QuantFields) -> tuple[Bytes, Bytes, Bytes]:
    """Return scales, minima and codes as uint8 with an axis of blocks."""
    n, blocks = parts.d.shape
    scales, minima = (each.astype(numpy.uint8).reshape(n, blocks, -1) for each in (parts.scales, parts.minima))
    return scales, minima, parts.codes.reshape(n, blocks, -1)


def _joined_bytes(*stored: Bytes) -> Bytes:
    return numpy.concatenate(stored, -1).reshape(len(stored[0]), -1)


def _q2_k(rows: Bytes) -> QuantFields:
    stored = _blocks(rows, 84)
    both = stored[..., :16]
    return _fields(
        _half(stored[..., 80:82]), _in_quarters(stored[..., 16:80]), both & 15, _half(stored[..., 82:84]), both >> 4
    )


def _to_q2_k(parts: QuantFields) -> Bytes:
    scales, minima, codes = _per_block(parts)
    return _joined_bytes(scales | (minima << 4), _from_quarters(codes), _stored(parts.d), _stored(parts.dmin))


def _q3_k(rows: Bytes) -> QuantFields:
    stored = _blocks(rows, 110)
    low = _in_quarters(stored[..., 32:96]).reshape(*stored.shape[:2], 8, 32)
    packed = stored[..., 96:108]
    nibbles = numpy.concatenate([packed[..., :8] & 15, packed[..., :8] >> 4], -1)
    high = ((packed[..., None, 8:12] >> _FOUR_SHIFTS) & 3).reshape(*stored.shape[:2], 16)
    scales = (nibbles | (high << 4)).astype(numpy.int32) - 32
    return _fields(_half(stored[..., 108:110]), low | (_bits(stored[..., :32]) << 2), scales)


def _to_q3_k(parts: QuantFields) -> Bytes:
    n, blocks = parts.d.shape
    scales = (parts.scales + 32).astype(numpy.uint8).reshape(n, blocks, 16)
    codes = parts.codes.reshape(n, blocks, -1)
    nibbles = (scales[..., :8] & 15) | ((scales[..., 8:] & 15) << 4)
    high = numpy.bitwise_or.reduce((scales >> 4).reshape(n, blocks, 4, 4) << _FOUR_SHIFTS, axis=2)
    return _joined_bytes(_from_bits(codes >> 2), _from_quarters(codes & 3), nibbles, high, _stored(parts.d))


def _q4_k(rows: Bytes) -> QuantFields:
    stored = _blocks(rows, 144)
    scales, minima = _six_bits(stored[..., 4:16])
    codes = _nibbles(stored[..., 16:], 4)
    return _fields(_half(stored[..., :2]), codes, scales, _half(stored[..., 2:4]), minima)


def _to_q4_k(parts: QuantFields) -> Bytes:
    scales, minima, codes = _per_block(parts)
    packed = _from_six_bits(scales, minima)
    return _joined_bytes(_stored(parts.d), _stored(parts.dmin), packed, _from_nibbles(codes, 4))


def _q5_k(rows: Bytes) -> QuantFields:
    stored = _blocks(rows, 176)
    scales, minima = _six_bits(stored[..., 4:16])
    low = _nibbles(stored[..., 48:], 4).reshape(*stored.shape[:2], 8, 32)
    codes = low | (_bits(stored[..., 16:48]) << 4)
    return _fields(_half(stored[..., :2]), codes, scales, _half(stored[..., 2:4]), minima)


def _to_q5_k(parts: QuantFields) -> Bytes:
    scales, minima, codes = _per_block(parts)
    packed = _from_six_bits(scales, minima)
    return _joined_bytes(_stored(parts.d), _stored(parts.dmin), packed, _from_bits(codes >> 4), _from_nibbles(codes, 4))


def _q6_k(rows: Bytes) -> QuantFields:
    stored = _blocks(rows, 210)
    low = stored[..., :128].reshape(*stored.shape[:2], 2, 2, 32)
    quarters = numpy.concatenate([low & 15, low >> 4], 3)
    codes = quarters | (_in_quarters(stored[..., 128:192]) << 4)
    return _fields(_half(stored[..., 208:210]), codes, stored[..., 192:208].view(numpy.int8))


def _to_q6_k(parts: QuantFields) -> Bytes:
    n, blocks = parts.d.shape
    codes = parts.codes.reshape(n, blocks, 2, 4, 32)
    low = (codes[..., :2, :] & 15) | ((codes[..., 2:, :] & 15) << 4)
    high = _from_quarters((codes >> 4).reshape(n, blocks, -1))
    scales = parts.scales.astype(numpy.int8).view(numpy.uint8).reshape(n, blocks, 16)
    return _joined_bytes(low.reshape(n, blocks, 128), high, scales, _stored(parts.d))


def _fifth_bits(stored: Bytes) -> Bytes:
    """Return the bits [n, blocks, 32] of four bytes a block."""
    return numpy.unpackbits(numpy.ascontiguousarray(stored), axis=-1, bitorder="little")


def _from_fifth_bits(bits: Bytes) -> Bytes:
    return numpy.packbits(bits, axis=-1, bitorder="little")


def _small(
    with_minimum: bool, with_fifth_bit: bool
) -> tuple[Callable[[Bytes], QuantFields], Callable[[QuantFields], Bytes]]:
    """Return the two functions of Q4_0, Q4_1, Q5_0 or Q5_1: 32 weights with a scale, and what is added to each or nothing."""
    head = 4 if with_minimum else 2
    start = head + (4 if with_fifth_bit else 0)

    def take_apart(rows: Bytes) -> QuantFields:
        stored = _blocks(rows, start + 16)
        codes = _nibbles(stored[..., start:], 1)
        if with_fifth_bit:
            codes |= _fifth_bits(stored[..., head:start]) << 4
        if not with_minimum:
            return _fields(_half(stored[..., :2]), codes)
        d = _half(stored[..., :2])
        return _fields(d, codes, None, -_half(stored[..., 2:4]), numpy.ones(d.shape, numpy.int32))

    def put_together(parts: QuantFields) -> Bytes:
        codes = parts.codes.reshape(*parts.d.shape, 32)
        stored = [_stored(parts.d)]
        stored += [_stored(-parts.dmin)] if with_minimum else []
        stored += [_from_fifth_bits(codes >> 4)] if with_fifth_bit else []
        return _joined_bytes(*stored, _from_nibbles(codes, 1))

    return take_apart, put_together


def _iq4_nl(rows: Bytes) -> QuantFields:
    stored = _blocks(rows, 18)
    return _fields(_half(stored[..., :2]), _nibbles(stored[..., 2:], 1))


def _to_iq4_nl(parts: QuantFields) -> Bytes:
    codes = parts.codes.reshape(*parts.d.shape, 32)
    return _joined_bytes(_stored(parts.d), _from_nibbles(codes, 1))


def _iq4_xs(rows: Bytes) -> QuantFields:
    stored = _blocks(rows, 136)
    high = numpy.ascontiguousarray(stored[..., 2:4]).view("<u2").astype(numpy.int32)
    high = (high >> numpy.arange(0, 16, 2)) & 3
    low = numpy.stack([stored[..., 4:8] & 15, stored[..., 4:8] >> 4], -1).reshape(*stored.shape[:2], 8)
    return _fields(_half(stored[..., :2]), _nibbles(stored[..., 8:], 8), (low | (high << 4)) - 32)


def _to_iq4_xs(parts: QuantFields) -> Bytes:
    n, blocks = parts.d.shape
    scales = (parts.scales + 32).reshape(n, blocks, 8)
    high = ((scales >> 4) << numpy.arange(0, 16, 2)).sum(-1, keepdims=True).astype("<u2").view(numpy.uint8)
    pairs = (scales & 15).astype(numpy.uint8).reshape(n, blocks, 4, 2)
    codes = parts.codes.reshape(n, blocks, -1)
    return _joined_bytes(_stored(parts.d), high, pairs[..., 0] | (pairs[..., 1] << 4), _from_nibbles(codes, 8))


def _levels(lowest: int, count: int) -> tuple[int, ...]:
    return tuple(range(lowest, lowest + count))


FORMATS: dict[str, QuantFormat] = {
    "Q2_K": QuantFormat(256, 16, 84, _levels(0, 4), (0, 15), 15, True, _q2_k, _to_q2_k),
    "Q3_K": QuantFormat(256, 16, 110, _levels(-4, 8), (-32, 31), 0, False, _q3_k, _to_q3_k),
    "Q4_K": QuantFormat(256, 32, 144, _levels(0, 16), (0, 63), 63, True, _q4_k, _to_q4_k),
    "Q5_K": QuantFormat(256, 32, 176, _levels(0, 32), (0, 63), 63, True, _q5_k, _to_q5_k),
    "Q6_K": QuantFormat(256, 16, 210, _levels(-32, 64), (-128, 127), 0, False, _q6_k, _to_q6_k),
    "Q4_0": QuantFormat(32, 32, 18, _levels(-8, 16), (1, 1), 0, False, *_small(False, False)),
    "Q4_1": QuantFormat(32, 32, 20, _levels(0, 16), (1, 1), 1, True, *_small(True, False)),
    "Q5_0": QuantFormat(32, 32, 22, _levels(-16, 32), (1, 1), 0, False, *_small(False, True)),
    "Q5_1": QuantFormat(32, 32, 24, _levels(0, 32), (1, 1), 1, True, *_small(True, True)),
    "IQ4_NL": QuantFormat(32, 32, 18, _IQ4_LEVELS, (1, 1), 0, False, _iq4_nl, _to_iq4_nl),
    "IQ4_XS": QuantFormat(256, 32, 136, _IQ4_LEVELS, (-32, 31), 0, False, _iq4_xs, _to_iq4_xs),
}
"""by the name of the type"""
