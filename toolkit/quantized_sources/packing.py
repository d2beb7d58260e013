"""Small codes packed into 32-bit words."""

from dataclasses import dataclass
from math import gcd
from typing import Any

import numpy
from numpy.typing import NDArray

Codes = NDArray[numpy.uint8]


def unpack_stream(words: NDArray[Any], bits: int) -> Codes:
    """Return uint8 [n * 32 / bits, ...] for 32-bit words [n, ...]: codes follow each other without gaps, lowest bits first.

    Codes of 3, 5 or 6 bits cross the border between two words (GPTQ, MLX).
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
    """Return after how many codes the borders of codes and words coincide."""
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
    """Return words [n, ...] with as many zeros after them as end where a code does."""
    missing = -len(words) % (codes_per_period(bits) * bits // 32)
    return numpy.pad(words, ((0, missing), *((0, 0) for _ in words.shape[1:])))


def unpack_nibbles(packed: NDArray[Any], *, high_first: bool = False) -> Codes:
    """Return uint8 [..., 2n] for bytes [..., n], two codes in each."""
    codes = numpy.empty((*packed.shape, 2), dtype=numpy.uint8)
    codes[..., int(high_first)] = packed & 15
    codes[..., int(not high_first)] = packed >> 4
    return codes.reshape(*packed.shape[:-1], -1)
