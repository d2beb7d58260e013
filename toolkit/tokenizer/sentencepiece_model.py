"""Read a sentencepiece vocabulary: tokenizer.model, and the tokens that other files add to it.

The file is a protocol buffer (sentencepiece's src/sentencepiece_model.proto). Its pieces come through the library; its
settings are read by hand, because the library does not expose them without the protobuf package, which nothing else here
needs. A field is a number and a value, here integers of variable length or bytes; of a repeated field the last
counts.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.errors import TokenizerError
from toolkit.gguf.format import string
from toolkit.json_files import read_bounded
from toolkit.tokenizer.chat_template import KEY as CHAT_TEMPLATE
from toolkit.tokenizer.files import (
    AddedToken,
    TokenizerFiles,
    decoder_added_tokens,
    named_special_texts,
    tokenizer_json_added_tokens,
)
from toolkit.tokenizer.vocabulary import ADDED_SCORE, Token, TokenType, Vocabulary, added_token, looks_special, padded

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

FILE = "tokenizer.model"
_TEMPLATES = {".v1": "mistral-v1", ".v3": "mistral-v3", ".v7": "mistral-v7"}
"""llama.cpp's own names for the chat templates that Mistral's versions of the file imply, where no other file has a template"""

_TRAINER, _NORMALIZER = 2, 3
_MODEL_TYPE = 3
_CHARSMAP, _DUMMY_PREFIX, _EXTRA_WHITESPACES = 2, 3, 4
_UNIGRAM = 1
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class SentencePieceSettings:
    """How text is brought into form before it is split, and by what kind of model."""

    is_unigram: bool
    adds_space_prefix: bool
    removes_extra_whitespaces: bool
    precompiled_charsmap: bytes
    """sentencepiece's own table of replacements of letters; empty if there is none"""


def read_sentencepiece(files: TokenizerFiles, n_rows: int) -> Vocabulary | None:
    """Return the vocabulary of tokenizer.model with one token for each of `n_rows` rows, or None if there is no file.

    Added tokens come from added_tokens.json, then tokenizer_config.json, then, for ids still free, tokenizer.json.
    Ordinary pieces that these files name as markers of a chat become control tokens, which llama.cpp, as transformers,
    finds in a text before it splits the rest.
    Source: TextModel._create_vocab_sentencepiece in llama.cpp's conversion/base.py, which ignores tokenizer.json.

    Raises TokenizerError if the file is not a sentencepiece model.
    """
    path = sentencepiece_file(files.directory)
    if path is None:
        return None
    model = open_sentencepiece(path)
    tokens, warnings = _overlaid(model.pieces, files, n_rows)
    template = _TEMPLATES.get(path.suffix)
    return Vocabulary(
        model="llama",
        pre="default",
        tokens=tokens,
        scored=True,
        adds_space_prefix=model.settings.adds_space_prefix,
        metadata={} if template is None else {CHAT_TEMPLATE: string(template)},
        warnings=warnings,
    )


def sentencepiece_file(directory: Path) -> Path | None:
    """Return tokenizer.model, else the last of those that Mistral names by their version; None if there is neither."""
    path = directory / FILE
    if path.is_file():
        return path
    return max(directory.glob(f"{FILE}.v*"), default=None)


@dataclass(frozen=True)
class SentencePieceModel:
    """What a sentencepiece file holds."""

    pieces: tuple[Token, ...]
    settings: SentencePieceSettings


def open_sentencepiece(path: Path) -> SentencePieceModel:
    """Read a sentencepiece file.

    Raises TokenizerError if it is not one.
    """
    from sentencepiece import SentencePieceProcessor

    data = read_bounded(path)
    model = SentencePieceProcessor()
    try:
        model.LoadFromSerializedProto(data)
        count = range(model.vocab_size())
        pieces = tuple(Token(model.id_to_piece(i), _type(model, i), model.get_score(i)) for i in count)
        return SentencePieceModel(pieces, read_settings(data))
    except (RuntimeError, ValueError) as error:
        # The library names its own source file in the message, which helps nobody.
        raise TokenizerError(
            f"{path.name} is not a sentencepiece model (truncated, or of another kind); download it again, or remove it if "
            "tokenizer.json describes the same vocabulary"
        ) from error


def _overlaid(pieces: Iterable[Token], files: TokenizerFiles, n_rows: int) -> tuple[tuple[Token, ...], tuple[str, ...]]:
    """Return a token for each row, the pieces under the tokens that other files add, and the warnings about them."""
    slots = _Slots(dict(enumerate(pieces)), n_rows)
    slots.add_plain(files.added_tokens)
    slots.add(decoder_added_tokens(files), "tokenizer_config.json")
    slots.add_missing(tokenizer_json_added_tokens(files), "tokenizer.json")
    slots.mark(markers(files, {piece.text: index for index, piece in slots.tokens.items()}))
    return tuple(padded(slots.tokens, n_rows)), slots.warnings()


def markers(files: TokenizerFiles, pieces: Mapping[str, int]) -> Iterator[AddedToken]:
    """Yield the tokens that transformers finds in a text before any piece, whatever the sentencepiece model calls them.

    `pieces` gives the ids of those that a file names by their text alone.
    """
    yield from tokenizer_json_added_tokens(files)
    named = [text for text in named_special_texts(files) if not text.isalnum()]
    ids = dict(files.added_tokens)
    for text in dict.fromkeys((*named, *filter(looks_special, ids))):
        index = ids.get(text, pieces.get(text))
        if index is not None:
            yield AddedToken(index, text, special=True)


class _Slots:
    """Tokens by id while the files are laid over each other."""

    def __init__(self, pieces: dict[int, Token], n_rows: int) -> None:
        self.tokens = {index: piece for index, piece in pieces.items() if index < n_rows}
        self._n_rows = n_rows
        self._beyond = {index: piece.text for index, piece in pieces.items() if index >= n_rows}
        self._conflicts: list[str] = []

    def add_plain(self, ids: Mapping[str, int]) -> None:
        """Lay added_tokens.json over the pieces; what repeats the piece of the same id keeps its type and score."""
        for text, index in ids.items():
            if index not in self.tokens or self.tokens[index].text != text:
                self._put(index, Token(text, TokenType.USER_DEFINED, ADDED_SCORE), "added_tokens.json")

    def add(self, added: Iterable[AddedToken], file: str) -> None:
        """Lay the added tokens of a file over what is there."""
        for token in added:
            self._put(token.id, added_token(token.text, token.special), file)

    def add_missing(self, added: Iterable[AddedToken], file: str) -> None:
        """Take from a file only what the others lack; where it contradicts them, say so."""
        for token in added:
            known = self.tokens.get(token.id)
            if known is None:
                self.add([token], file)
            elif not _same(known.text, token.text):
                self._conflicts.append(f"{file} says that token {token.id} is {token.text!r}, but it is {known.text!r}")

    def mark(self, markers: Iterable[AddedToken]) -> None:
        """Give markers that are ordinary pieces the type of an added token; otherwise they would be split like any word."""
        for marker in markers:
            known = self.tokens.get(marker.id)
            if known is not None and known.type == TokenType.NORMAL and _same(known.text, marker.text):
                self.tokens[marker.id] = added_token(marker.text, marker.special)

    def warnings(self) -> tuple[str, ...]:
        """Return one warning for each conflict, and one for all tokens without a row."""
        if not self._beyond:
            return tuple(self._conflicts)
        index, text = min(self._beyond.items())
        beyond = f"{len(self._beyond)} token(s) from {index} ({text!r}) on have no row in the embedding; left out"
        return (*self._conflicts, beyond)

    def _put(self, index: int, token: Token, file: str) -> None:
        if index >= self._n_rows:
            self._beyond[index] = token.text
            return
        before = self.tokens.get(index)
        if before is not None and not _same(before.text, token.text):
            self._conflicts.append(f"{file} makes token {index} {token.text!r}, which was {before.text!r} before")
        self.tokens[index] = token


def _same(text: str, other: str) -> bool:
    return text.replace("▁", " ") == other.replace("▁", " ")


def _type(model: "SentencePieceProcessor", index: int) -> TokenType:
    # A piece that was user-defined at training counts as NORMAL, as in llama.cpp's converter.
    if model.is_unknown(index):
        return TokenType.UNKNOWN
    if model.is_control(index):
        return TokenType.CONTROL
    if model.is_unused(index):
        return TokenType.UNUSED
    return TokenType.BYTE if model.is_byte(index) else TokenType.NORMAL


def read_settings(model: bytes) -> SentencePieceSettings:
    """Return the settings of a serialized model.

    Raises ValueError if the bytes are not a protocol buffer.
    """
    parts = dict(_fields(model))
    trainer, normalizer = (dict(_fields(_bytes(parts.get(number)))) for number in (_TRAINER, _NORMALIZER))
    return SentencePieceSettings(
        is_unigram=trainer.get(_MODEL_TYPE, _UNIGRAM) == _UNIGRAM,
        adds_space_prefix=bool(normalizer.get(_DUMMY_PREFIX, True)),
        removes_extra_whitespaces=bool(normalizer.get(_EXTRA_WHITESPACES, True)),
        precompiled_charsmap=_bytes(normalizer.get(_CHARSMAP)),
    )


def _bytes(value: int | bytes | None) -> bytes:
    return value if isinstance(value, bytes) else b""


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        kind = key & 7
        if kind == _VARINT:
            value, position = _varint(data, position)
            yield key >> 3, value
            continue
        if kind == _BYTES:
            length, position = _varint(data, position)
        elif kind in (_FIXED32, _FIXED64):
            length = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"a field of kind {kind} at byte {position}")
        if position + length > len(data):
            raise ValueError(f"the field at byte {position} ends beyond the file")
        yield key >> 3, data[position : position + length]
        position += length


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(data[position : position + 10]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, position + index + 1
    raise ValueError(f"no integer at byte {position}")
