"""A vocabulary: its tokens in id order, one for every row of the embedding."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum

from toolkit.gguf.format import Metadata

TOKENS = "tokenizer.ggml.tokens"
"""key of the texts"""


class TokenType(IntEnum):
    """What a token is for, with the number that GGUF and sentencepiece store."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class Token:
    """One token; `score` counts in vocabularies of model `llama` only."""

    text: str
    type: TokenType
    score: float = 0.0


@dataclass(frozen=True)
class Vocabulary:
    """What the vocabulary files say, before special roles and chat templates.

    `pre` is None where the model's name says it all; `adds_space_prefix` is None where the files do not say.
    """

    model: str
    pre: str | None
    tokens: tuple[Token, ...]
    scored: bool
    merges: tuple[str, ...] = ()
    adds_space_prefix: bool | None = None
    metadata: Metadata = field(default_factory=dict)
    """keys that this kind of vocabulary has, or that it gives where no other file does"""
    role_ids: Mapping[str, int] = field(default_factory=dict)
    """ids by role (`bos`, `eos`, …) that the vocabulary itself gives, where no other file does"""
    warnings: tuple[str, ...] = ()


FILLER_SCORE = -10000.0
ADDED_SCORE = -1000.0
BYTE = re.compile("<0x[0-9A-Fa-f]{2}>")
"""A piece that stands for a byte."""

_SPECIAL_TEXTS = frozenset({"<pad>", "<mask>", "<2mass>", "[@BOS@]"})
_SPECIAL_BRACKETS = (("<|", "|>"), ("<\uff5c", "\uff5c>"), ("<unused", ">"))
"""The second pair is DeepSeek's, with fullwidth bars."""


def looks_special(text: str) -> bool:
    """Tell whether an added token is a control token by its text; some models do not mark theirs.

    Source: TextModel.does_token_look_special in llama.cpp's conversion/base.py.
    """
    brackets = any(text.startswith(left) and text.endswith(right) for left, right in _SPECIAL_BRACKETS)
    return brackets or text in _SPECIAL_TEXTS


def added_token(text: str, special: bool, score: float = ADDED_SCORE) -> Token:
    """Return an added token, CONTROL or USER_DEFINED; llama.cpp matches the latter against text with plain spaces."""
    if special or looks_special(text):
        return Token(text, TokenType.CONTROL, score)
    return Token(text.replace("▁", " "), TokenType.USER_DEFINED, score)


def filler(index: int, score: float = FILLER_SCORE) -> Token:
    """Return the token for a row of the embedding that no token uses."""
    return Token(f"[PAD{index}]", TokenType.UNUSED, score)


def padded(tokens: dict[int, Token], n_rows: int) -> list[Token]:
    """Return `n_rows` tokens in id order, with fillers in the gaps."""
    return [tokens[index] if index in tokens else filler(index) for index in range(n_rows)]


def distinct(vocabulary: Vocabulary) -> Vocabulary:
    """Return the vocabulary with a filler in place of every token that repeats an earlier text.

    llama.cpp aborts the whole process on a vocabulary in which two ids have one text.
    """
    first_ids: dict[str, int] = {}
    repeated = {i: first for i, token in enumerate(vocabulary.tokens) if (first := _first(first_ids, token, i)) != i}
    if not repeated:
        return vocabulary
    tokens = list(vocabulary.tokens)
    for index in repeated:
        tokens[index] = _unlike(filler(index, tokens[index].score), first_ids)
    return replace(
        vocabulary, tokens=tuple(tokens), warnings=(*vocabulary.warnings, _repetitions(repeated, vocabulary))
    )


def _first(first_ids: dict[str, int], token: Token, index: int) -> int:
    return first_ids.setdefault(token.text, index)


def _unlike(token: Token, taken: Iterable[str]) -> Token:
    text = token.text
    while text in taken:
        text += "_"
    return replace(token, text=text)


def _repetitions(repeated: dict[int, int], vocabulary: Vocabulary) -> str:
    index, first = next(iter(repeated.items()))
    text = vocabulary.tokens[index].text
    return (
        f"{len(repeated)} token(s) repeat the text of another (token {index} is {text!r} like token {first}), which "
        "llama.cpp cannot load; the later ones are written as unused fillers"
    )
