"""Stored numbers as arrays: the float formats that numpy lacks, and small codes packed into 32-bit words."""

from collections.abc import Callable
from dataclasses import dataclass
from math import gcd
from typing import Any

import numpy
from numpy.typing import NDArray

from toolkit.checkpoint.tensor import StoredTensor
from toolkit.errors import CheckpointError

Floats = NDArray[numpy.float32]

_NUMPY_DTYPES = {
    "BOOL": "u1", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4", "U64": "<u8",
    "I64": "<i8", "F16": "<f2", "BF16": "<u2", "F32": "<f4", "F64": "<f8", "F8_E4M3": "u1", "F8_E5M2": "u1",
    "F8_E8M0": "u1",
}  # fmt: skip

FLOAT8_DTYPES = ("F8_E4M3", "F8_E5M2")
"""of weights; F8_E8M0 is one of scales"""
FP4_LEVELS = numpy.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], dtype=numpy.float32)
"""E2M1, of MXFP4 and NVFP4: the value of every code"""


def _minifloat_values(exponent_bits: int, mantissa_bits: int, bias: int) -> Floats:
    """Return the value of each of the 256 codes of an 8-bit float, as if it had neither infinities nor NaN."""
    codes = numpy.arange(256)
    exponent = (codes >> mantissa_bits) & (2**exponent_bits - 1)
    fraction = (codes & (2**mantissa_bits - 1)) / 2**mantissa_bits
    magnitude = numpy.where(exponent == 0, fraction * 2.0 ** (1 - bias), (1 + fraction) * 2.0 ** (exponent - bias))
    values: Floats = numpy.where(codes >> 7, -magnitude, magnitude).astype(numpy.float32)
    return values


def _e4m3_values() -> Floats:
    """Return float8 E4M3 (`fn`): no infinities, one NaN for each sign."""
    values = _minifloat_values(4, 3, 7)
    values[[0x7F, 0xFF]] = numpy.nan
    return values


def _e5m2_values() -> Floats:
    """Return float8 E5M2: infinities and NaN as in IEEE 754."""
    values = _minifloat_values(5, 2, 15)
    values[[0x7C, 0xFC]] = numpy.inf, -numpy.inf
    values[[0x7D, 0x7E, 0x7F, 0xFD, 0xFE, 0xFF]] = numpy.nan
    return values


def _e8m0_values() -> Floats:
    """Return float8 E8M0: powers of two from 2 ** -127 to 2 ** 127, and one NaN."""
    values = (2.0 ** (numpy.arange(256) - 127.0)).astype(numpy.float64)
    values[255] = numpy.nan
    return values.astype(numpy.float32)


_FLOAT8 = {"F8_E4M3": _e4m3_values(), "F8_E5M2": _e5m2_values(), "F8_E8M0": _e8m0_values()}
E8M0_VALUES = _FLOAT8["F8_E8M0"]


def _widened(bits: NDArray[Any]) -> Floats:
    return (bits.astype(numpy.uint32) << 16).view(numpy.float32)


@dataclass(frozen=True)
class Numbers:
    """The numbers of a stored tensor: their bits, and what these mean."""

    name: str
    dtype: str
    bits: NDArray[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the stored tensor."""
        return self.bits.shape

    def floats(self, selection: Any = ...) -> Floats:
        """Return the selected numbers as float32; exact for all types of up to 32 bits that hold floats."""
        bits = self.bits[selection]
        if self.dtype == "BF16":
            return _widened(bits)
        if self.dtype in _FLOAT8:
            values: Floats = numpy.take(_FLOAT8[self.dtype], bits)
            return values
        return numpy.asarray(bits, dtype=numpy.float32)

    def reshaped(self, *shape: int) -> "Numbers":
        """Return the same numbers in another shape."""
        return Numbers(self.name, self.dtype, self.bits.reshape(shape))

    def mapped(self, function: Callable[[NDArray[Any]], NDArray[Any]]) -> "Numbers":
        """Return the numbers with their bits rearranged."""
        return Numbers(self.name, self.dtype, function(self.bits))


def numbers(tensor: StoredTensor) -> Numbers:
    """Return a view of a stored tensor's numbers.

    Raises CheckpointError if their type has no whole bytes.
    """
    dtype = _NUMPY_DTYPES.get(tensor.dtype)
    if dtype is None:
        raise CheckpointError(f"{tensor.name} has the dtype {tensor.dtype}, which cannot be read as numbers")
    if not tensor.data.nbytes:
        raise CheckpointError(f"{tensor.name} has shape {list(tensor.shape)}: it holds no numbers")
    # safetensors files do not align their data, and numpy reads unaligned views correctly
    return Numbers(tensor.name, tensor.dtype, numpy.ndarray(tensor.shape, dtype, buffer=tensor.data.data))


Codes = NDArray[numpy.uint8]


def unpack_stream(words: NDArray[Any], bits: int) -> Codes:
    """Return uint8 [n * 32 / bits, ...] for 32-bit words [n, ...]: codes follow each other without gaps, lowest bits first.

    Codes of 3, 5 or 6 bits may lie in two words (GPTQ, MLX).
    """
    per_period, words_per_period = codes_per_period(bits), bits // gcd(bits, 32)
    stored = numpy.ascontiguousarray(words).view(numpy.uint32)
    grouped = stored.reshape(-1, words_per_period, *words.shape[1:])
    codes = numpy.empty((len(grouped), per_period, *words.shape[1:]), dtype=numpy.uint8)
    for index in range(per_period):
        word, shift = divmod(index * bits, 32)
        value = grouped[:, word] >> shift
        if shift + bits > 32:
            value = value | grouped[:, word + 1] << (32 - shift)
        codes[:, index] = value & (2**bits - 1)
    return codes.reshape(-1, *words.shape[1:])


def codes_per_period(bits: int) -> int:
    """Return after how many codes a code ends where a word ends."""
    return 32 // gcd(bits, 32)


def unpack_stream_columns(words: NDArray[Any], bits: int, start: int, stop: int) -> Codes:
    """Return uint8 [rows, stop - start]: columns of codes that are packed along the second axis."""
    period = codes_per_period(bits)
    first, last = start // period, -(-stop // period)
    words_per_period = period * bits // 32
    read = words[:, first * words_per_period : last * words_per_period]
    return unpack_stream(read.T, bits)[start - first * period : stop - first * period].T


def unpack_word_columns(words: NDArray[Any], shifts: tuple[int, ...], bits: int) -> Codes:
    """Return uint8 [rows, n * len(shifts)] for 32-bit words [rows, n]."""
    stored = numpy.ascontiguousarray(words).view(numpy.uint32)
    codes = numpy.empty((*stored.shape, len(shifts)), dtype=numpy.uint8)
    for index, shift in enumerate(shifts):
        codes[..., index] = (stored >> shift) & (2**bits - 1)
    return codes.reshape(len(stored), -1)


@dataclass(frozen=True)
class WordPacking:
    """How codes lie in 32-bit words along an axis: whole ones in each word, or one after the other without gaps."""

    bits: int
    dense: bool

    def n_words(self, n_codes: int) -> int:
        """Return how many words that many codes take."""
        return -(-n_codes * self.bits // 32) if self.dense else -(-n_codes // self._per_word)

    def columns(self, words: NDArray[Any]) -> Codes:
        """Return uint8 [rows, columns] for words [rows, n]; there may be padding after the codes."""
        return unpack_stream(_whole_periods(words.T, self.bits), self.bits).T if self.dense else self._in_words(words)

    def rows(self, words: NDArray[Any], start: int, stop: int) -> Codes:
        """Return uint8 [stop - start, columns] for words [n, columns], where codes are packed along the first axis."""
        per_piece = codes_per_period(self.bits) if self.dense else self._per_word
        n_words = per_piece * self.bits // 32 if self.dense else 1
        first, last = start // per_piece, -(-stop // per_piece)
        codes = self.columns(words[first * n_words : last * n_words].T).T
        return codes[start - first * per_piece : stop - first * per_piece]

    @property
    def _per_word(self) -> int:
        return 32 // self.bits

    def _in_words(self, words: NDArray[Any]) -> Codes:
        shifts = tuple(index * self.bits for index in range(self._per_word))
        return unpack_word_columns(words, shifts, self.bits)


def _whole_periods(words: NDArray[Any], bits: int) -> NDArray[Any]:
    """Return words [n, ...] with zeros appended until a code ends where the last word does."""
    missing = -len(words) % (codes_per_period(bits) * bits // 32)
    return numpy.pad(words, ((0, missing), *((0, 0) for _ in words.shape[1:])))


def unpack_nibbles(packed: NDArray[Any], *, high_first: bool = False) -> Codes:
    """Return uint8 [..., 2n] for bytes [..., n], two codes in each."""
    codes = numpy.empty((*packed.shape, 2), dtype=numpy.uint8)
    codes[..., int(high_first)] = packed & 15
    codes[..., int(not high_first)] = packed >> 4
    return codes.reshape(*packed.shape[:-1], -1)
