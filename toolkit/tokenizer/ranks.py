"""Vocabularies as ranks: byte strings in the order in which they were merged, from which the merges follow."""

import base64
import binascii
from collections.abc import Iterator, Mapping
from pathlib import Path

from toolkit.errors import TokenizerError
from toolkit.json_files import read_text
from toolkit.tokenizer.byte_level_bpe import spelled

MAX_TOKEN_BYTES = 1024
"""Eight times the longest token in use, a run of blanks; the work of finding merges grows with the square of it."""
_MAX_DIGITS = 9
Ranks = Mapping[bytes, int]


def read_ranks(path: Path) -> dict[bytes, int]:
    """Return the ranks of a tiktoken file: a token in base64 and its rank in every line.

    Raises TokenizerError if a line is malformed, or the ranks are not 0, 1, 2, ….
    """
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        parts = line.split()
        if not parts:
            continue
        if len(parts) != 2 or not parts[1].isdecimal() or len(parts[1]) > _MAX_DIGITS:
            raise TokenizerError(f"{path.name} line {number} is {line[:40]!r}, expected a token in base64 and its rank")
        ranks[decoded(parts[0], f"{path.name} line {number}")] = int(parts[1])
    check_ranks(ranks, path.name)
    return ranks


def check_ranks(ranks: Ranks, place: str) -> None:
    """Refuse ranks with gaps or without a token for every byte.

    Raises TokenizerError.
    """
    if sorted(ranks.values()) != list(range(len(ranks))):
        raise TokenizerError(f"{place}: the ranks of its {len(ranks)} tokens are not 0, 1, 2, …; download it again")
    missing = next((byte for byte in range(256) if bytes((byte,)) not in ranks), None)
    if missing is not None:
        raise TokenizerError(f"{place} has no token for the byte {missing:#04x}; download it again")


def decoded(text: object, place: str) -> bytes:
    """Return the bytes of a token in base64.

    Raises TokenizerError if it is not base64, or longer than any token in use.
    """
    try:
        token = base64.b64decode(str(text), validate=True)
    except (binascii.Error, ValueError) as error:
        raise TokenizerError(f"{place} has the token {str(text)[:40]!r}, which is not base64") from error
    if len(token) > MAX_TOKEN_BYTES:
        raise TokenizerError(
            f"{place} has a token of {len(token):,} bytes, at most {MAX_TOKEN_BYTES:,} are read: damaged"
        )
    return token


def last_merges(ranks: Ranks) -> Iterator[str]:
    """Yield for every token of several bytes the two that were merged last to make it, in GGUF's spelling.

    A token that no merges lead to is left out. Source: QwenModel.bpe in llama.cpp's conversion/qwen.py.
    """
    for token, rank in ranks.items():
        parts = merged_below(ranks, token, rank) if len(token) > 1 else []
        if len(parts) == 2:
            yield f"{spelled(parts[0])} {spelled(parts[1])}"


def merged_below(ranks: Ranks, token: bytes, limit: int) -> list[bytes]:
    """Return a token as BPE leaves it when only merges of a rank below `limit` count: with all of them, as tiktoken does."""
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 1:
        merged = (ranks.get(parts[i] + parts[i + 1], limit) for i in range(len(parts) - 1))
        rank, index = min((rank, i) for i, rank in enumerate(merged))
        if rank >= limit:
            break
        parts[index : index + 2] = [parts[index] + parts[index + 1]]
    return parts


def all_merges(ranks: Ranks) -> Iterator[str]:
    """Yield for every token of several bytes each pair of tokens that makes it, those of lower rank first.

    Source: MistralVocab.extract_vocab_merges_from_model in llama.cpp's gguf/vocab.py.
    """
    for token in sorted(ranks, key=ranks.__getitem__):
        pairs = ((token[:i], token[i:]) for i in range(1, len(token)))
        known = [pair for pair in pairs if pair[0] in ranks and pair[1] in ranks]
        for left, right in sorted(known, key=lambda pair: (ranks[pair[0]], ranks[pair[1]])):
            yield f"{spelled(left)} {spelled(right)}"
