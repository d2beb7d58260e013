"""A vocabulary: its tokens in id order, one for every row of the embedding, and the tokens that are added to it.

Added tokens are gathered from the files of a tokenizer as transformers does when it loads them.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any

from toolkit.errors import TokenizerError
from toolkit.gguf.format import Metadata
from toolkit.tokenizer.files import (
    AddedToken,
    TokenizerFiles,
    decoder_added_tokens,
    named_special_texts,
    tokenizer_json_added_tokens,
)

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

    `pre` is None where the model's name implies it; `adds_space_prefix` is None where the files do not say.
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


def vocabulary_ids(model: Mapping[str, Any]) -> dict[str, int]:
    """Return the `vocab` of the model: ids by text.

    Raises TokenizerError if it is missing or malformed.
    """
    return checked_ids(model.get("vocab"), "tokenizer.json: model.vocab")


def checked_ids(vocabulary: Any, place: str) -> dict[str, int]:
    """Return an object of texts and ids as it is.

    Raises TokenizerError, naming `place`, if it is not such an object.
    """
    if not isinstance(vocabulary, dict) or not vocabulary:
        raise TokenizerError(f"{place} is missing or empty, expected an object of texts and ids")
    for text, index in vocabulary.items():
        if not isinstance(index, int) or index < 0:
            raise TokenizerError(f"{place} gives {text!r} the id {index!r}, expected a whole number")
    return vocabulary


def too_few_rows(index: int, text: str, n_rows: int) -> TokenizerError:
    """Return the error for a vocabulary that is larger than the embedding."""
    return TokenizerError(
        f"the vocabulary has token {index} ({text!r}) but the embedding has only {n_rows} rows; "
        "tokenizer and weights are not of the same model"
    )


def gather_added_tokens(files: TokenizerFiles, vocabulary: Mapping[str, int]) -> list[AddedToken]:
    """Return every added token once, in id order; `vocabulary` gives the ids of the trained pieces.

    The flags of tokenizer_config.json win over those of tokenizer.json; a special token that is only named gets the id
    of the piece with its text, or else the next free id.
    """
    added = {token.text: token for token in tokenizer_json_added_tokens(files)}
    for token in _declared_elsewhere(files):
        known = added.get(token.text)
        index = known.id if known else vocabulary.get(token.text, token.id)
        added[token.text] = replace(token, id=index)
    for text in named_special_texts(files):
        if text not in added:
            added[text] = AddedToken(vocabulary.get(text, _next_id(added, vocabulary)), text)
    return sorted(added.values(), key=lambda token: token.id)


def _declared_elsewhere(files: TokenizerFiles) -> list[AddedToken]:
    if "added_tokens_decoder" in files.settings:
        return decoder_added_tokens(files)
    special = set(named_special_texts(files))
    return [
        AddedToken(index, text, special=text in special, normalized=text not in special)
        for text, index in files.added_tokens.items()
    ]


def _next_id(added: Mapping[str, AddedToken], vocabulary: Mapping[str, int]) -> int:
    return 1 + max((*vocabulary.values(), *(token.id for token in added.values())), default=-1)


def tokens_by_row(
    files: TokenizerFiles, n_rows: int, plain_text: Callable[[AddedToken], str]
) -> tuple[tuple[Token, ...], tuple[str, ...]]:
    """Return a token for each row, made of trained pieces and, over these, added tokens; and warnings.

    `plain_text` returns the text that an added token has in the file.

    Raises TokenizerError if the vocabulary is malformed or larger than the embedding.
    """
    ids = vocabulary_ids(files.model)
    tokens = {index: Token(text, TokenType.NORMAL) for text, index in ids.items()}
    last = max(tokens)
    if last >= n_rows:
        raise too_few_rows(last, tokens[last].text, n_rows)
    added = gather_added_tokens(files, ids)
    warnings = (*conflicts(added, tokens), *beyond(added, n_rows))
    tokens |= {token.id: added_token(plain_text(token), token.special, 0.0) for token in added}
    return tuple(padded(tokens, n_rows)), warnings


def conflicts(added: Iterable[AddedToken], tokens: Mapping[int, Token]) -> list[str]:
    """Return a warning for each added token whose id has another text in the vocabulary."""
    return [
        f"token {token.id} is {tokens[token.id].text!r} in the vocabulary but {token.text!r} among the added tokens; "
        "the added one is used"
        for token in added
        if token.id in tokens and tokens[token.id].text != token.text
    ]


def beyond(added: Iterable[AddedToken], n_rows: int) -> list[str]:
    """Return a warning if added tokens have no row."""
    rowless = [token for token in added if token.id >= n_rows]
    if not rowless:
        return []
    first = f"{rowless[0].id} ({rowless[0].text!r})"
    return [f"{len(rowless)} added token(s) from {first} on have no row in the embedding; left out"]
