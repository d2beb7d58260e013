"""Read tiktoken files, whose special tokens are listed in the Python code of their families: Qwen 1 and Kimi.

A vocabulary is ranks: byte strings in the order in which they were merged, from which the merges follow.
"""

import base64
import binascii
from collections.abc import Iterator, Mapping
from pathlib import Path

from toolkit.errors import TokenizerError
from toolkit.json_files import read_text
from toolkit.tokenizer.byte_level_bpe import spelled
from toolkit.tokenizer.files import TokenizerFiles, decoder_added_tokens
from toolkit.tokenizer.vocabulary import Token, TokenType, Vocabulary, padded, too_few_rows

MAX_TOKEN_BYTES = 1024
"""Eight times the longest token in use, a run of blanks; the work of finding merges grows with the square of it."""
_MAX_DIGITS = 9
Ranks = Mapping[bytes, int]

QWEN_FILE, KIMI_FILE = "qwen.tiktoken", "tiktoken.model"

_QWEN_END = "<|endoftext|>"
_QWEN_SPECIAL = (_QWEN_END, "<|im_start|>", "<|im_end|>", *(f"<|extra_{index}|>" for index in range(205)))
"""The special tokens that Qwen's tokenization_qwen.py adds after those of the file."""
_KIMI_RESERVED = 258
"""How many ids Kimi's tokenization_kimi.py adds there; tokenizer_config.json names some of them."""


def read_qwen_tiktoken(files: TokenizerFiles, n_rows: int) -> Vocabulary | None:
    """Return the vocabulary of qwen.tiktoken, or None if there is no such file.

    Source: TextModel._set_vocab_qwen in llama.cpp's conversion/base.py.

    Raises TokenizerError if the file is malformed.
    """
    if not files.path(QWEN_FILE).is_file():
        return None
    ranks = read_ranks(files.path(QWEN_FILE))
    special = dict(enumerate(_QWEN_SPECIAL, start=len(ranks)))
    end = len(ranks)
    roles = {"bos": end, "eos": end, "unk": end}
    return _vocabulary(ranks, special, n_rows, "qwen2", roles)


def read_kimi_tiktoken(files: TokenizerFiles, n_rows: int) -> Vocabulary | None:
    """Return the vocabulary of tiktoken.model, or None if there is no such file.

    Source: DeepseekV2Model.set_vocab in llama.cpp's conversion/deepseek.py.

    Raises TokenizerError if a file is malformed.
    """
    if not files.path(KIMI_FILE).is_file():
        return None
    ranks = read_ranks(files.path(KIMI_FILE))
    special = {index: f"<|reserved_token_{index}|>" for index in range(len(ranks), len(ranks) + _KIMI_RESERVED)}
    special |= {token.id: token.text for token in decoder_added_tokens(files)}
    return _vocabulary(ranks, special, n_rows, "kimi-k2", {})


def _vocabulary(
    ranks: dict[bytes, int], special: dict[int, str], n_rows: int, pre: str, roles: dict[str, int]
) -> Vocabulary:
    last = max(ranks, key=ranks.__getitem__)
    if len(ranks) > n_rows:
        raise too_few_rows(len(ranks) - 1, spelled(last), n_rows)
    tokens = {rank: Token(spelled(token), TokenType.NORMAL) for token, rank in ranks.items()}
    tokens |= {index: Token(text, TokenType.CONTROL) for index, text in special.items()}
    return Vocabulary(
        "gpt2", pre, tuple(padded(tokens, n_rows)), scored=False, merges=tuple(last_merges(ranks)), role_ids=roles
    )


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
