"""Read a unigram vocabulary, GGUF's model `t5`: that of a sentencepiece file, or of tokenizer.json.

Source: T5Model.set_vocab (conversion/t5.py) and BertModel._xlmroberta_set_vocab (conversion/bert.py) of llama.cpp. Unlike
those, tokens that the tokenizer's own files add keep their names; and where there is only tokenizer.json, what it does
to spaces is read from it.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from toolkit.errors import TokenizerError
from toolkit.gguf.format import Metadata, ValueType, array, boolean
from toolkit.tokenizer.files import (
    AddedToken,
    TokenizerFiles,
    decoder_added_tokens,
    normalizer_steps,
    pre_tokenizer_steps,
    tokenizer_json_added_tokens,
)
from toolkit.tokenizer.sentencepiece_model import SentencePieceSettings, open_sentencepiece
from toolkit.tokenizer.vocabulary import (
    BYTE,
    Token,
    TokenType,
    Vocabulary,
    added_token,
    beyond,
    conflicts,
    filler,
    gather_added_tokens,
    padded,
    too_few_rows,
)

T5_FILES = ("tokenizer.model", "spiece.model")
XLM_ROBERTA_FILE = "sentencepiece.bpe.model"

_XLM_ROBERTA_FIRST = (
    Token("<s>", TokenType.CONTROL),
    Token("<pad>", TokenType.CONTROL),
    Token("</s>", TokenType.CONTROL),
    Token("<unk>", TokenType.UNKNOWN),
)
"""The first tokens of the model, in place of the first three pieces of its sentencepiece file."""
_APPLIED_NORMALIZERS = ("Sequence", "Precompiled", "Replace", "Strip")
_SPACES = " {2,}"
_UNASKED_SPACE = (
    "llama.cpp puts a space before every text wherever it removes extra spaces, though this tokenizer does not"
)
_NO_TEMPLATE = (
    "there is no tokenizer.json, which would say that every text begins with <s> and which token is unknown: llama.cpp "
    "will use its own defaults, which differ; copy tokenizer.json from the original model"
)


def read_t5(files: TokenizerFiles, n_rows: int) -> Vocabulary | None:
    """Return the vocabulary of T5's sentencepiece file, else that of tokenizer.json, or None if it is not unigram.

    Raises TokenizerError if a file is malformed.
    """
    path = next((path for name in T5_FILES if (path := files.path(name)).is_file()), None)
    if path is None:
        return read_unigram_json(files, n_rows)
    model = open_sentencepiece(path)
    if not model.settings.is_unigram:
        return None
    return _vocabulary(model.settings, *_by_row(model.pieces, _stated(files), n_rows))


def read_xlm_roberta(files: TokenizerFiles, n_rows: int) -> Vocabulary | None:
    """Return the vocabulary of XLM-RoBERTa's sentencepiece file, whose pieces have ids that are higher by one in the model.

    Raises TokenizerError if a file is malformed, or the model is not unigram.
    """
    path = files.path(XLM_ROBERTA_FILE)
    if not path.is_file():
        return read_unigram_json(files, n_rows)
    model = open_sentencepiece(path)
    if not model.settings.is_unigram:
        raise TokenizerError(
            f"{path.name} holds a BPE model, expected unigram; this kind of vocabulary is not supported"
        )
    tokens, warnings = _by_row((*_XLM_ROBERTA_FIRST, *model.pieces[3:]), _stated(files), n_rows)
    # Fillers are numbered as in the sentencepiece file, like all that is moved.
    moved = tuple(filler(i - 1) if token == filler(i) else token for i, token in enumerate(tokens))
    vocabulary = _vocabulary(model.settings, moved, warnings)
    return vocabulary if files.tokenizer_json else replace(vocabulary, warnings=(*vocabulary.warnings, _NO_TEMPLATE))


def read_unigram_json(files: TokenizerFiles, n_rows: int) -> Vocabulary | None:
    """Return the vocabulary of a tokenizer.json with a Unigram model, or None if there is no such file.

    Raises TokenizerError if it is malformed.
    """
    if files.model.get("type") != "Unigram":
        return None
    pieces = _pieces(files)
    added = gather_added_tokens(files, {piece.text: index for index, piece in enumerate(pieces)})
    tokens, warnings = _by_row(pieces, added, n_rows)
    return _vocabulary(_settings(files), tokens, (*warnings, *_unsupported_normalizers(files)))


def _stated(files: TokenizerFiles) -> list[AddedToken]:
    """Return the added tokens whose ids a file states; a sentencepiece vocabulary does not number those that are only named."""
    plain = [AddedToken(index, text, special=False) for text, index in files.added_tokens.items()]
    tokens = [*plain, *tokenizer_json_added_tokens(files), *decoder_added_tokens(files)]
    return list({token.id: token for token in tokens}.values())


def _by_row(
    pieces: Sequence[Token], added: Sequence[AddedToken], n_rows: int
) -> tuple[tuple[Token, ...], tuple[str, ...]]:
    """Return a token for each row, the pieces under the added tokens, and the warnings about them."""
    if len(pieces) > n_rows:
        raise too_few_rows(len(pieces) - 1, pieces[-1].text, n_rows)
    known = dict(enumerate(pieces))
    tokens = known | {token.id: _laid_over(token, known.get(token.id)) for token in added}
    return tuple(padded(tokens, n_rows)), (*conflicts(added, known), *beyond(added, n_rows))


def _laid_over(token: AddedToken, piece: Token | None) -> Token:
    if piece is None or piece.text != token.text:
        return added_token(token.text, token.special)
    return added_token(token.text, token.special, piece.score) if piece.type == TokenType.NORMAL else piece


def _vocabulary(settings: SentencePieceSettings, tokens: tuple[Token, ...], warnings: tuple[str, ...]) -> Vocabulary:
    if settings.removes_extra_whitespaces and not settings.adds_space_prefix:
        warnings = (*warnings, _UNASKED_SPACE)
    return Vocabulary("t5", "default", tokens, scored=True, metadata=_metadata(settings), warnings=warnings)


def _metadata(settings: SentencePieceSettings) -> Metadata:
    metadata = {
        "tokenizer.ggml.add_space_prefix": boolean(settings.adds_space_prefix),
        "tokenizer.ggml.remove_extra_whitespaces": boolean(settings.removes_extra_whitespaces),
    }
    if settings.precompiled_charsmap:
        metadata["tokenizer.ggml.precompiled_charsmap"] = array(ValueType.UINT8, settings.precompiled_charsmap)
    return metadata


def _pieces(files: TokenizerFiles) -> list[Token]:
    entries = files.model.get("vocab")
    if not isinstance(entries, list) or not entries:
        raise TokenizerError("tokenizer.json: model.vocab is missing or empty, expected a list of pieces with scores")
    unknown, bytes_fall_back = files.model.get("unk_id"), bool(files.model.get("byte_fallback"))
    return [_piece(entry, index, unknown, bytes_fall_back) for index, entry in enumerate(entries)]


def _piece(entry: Any, index: int, unknown: Any, bytes_fall_back: bool) -> Token:
    match entry:
        case [str(text), int(score) | float(score)]:
            if index == unknown:
                return Token(text, TokenType.UNKNOWN, float(score))
            is_byte = bytes_fall_back and BYTE.fullmatch(text) is not None
            return Token(text, TokenType.BYTE if is_byte else TokenType.NORMAL, float(score))
    raise TokenizerError(f"tokenizer.json: piece {index} is {entry!r}, expected a text and a score")


def _settings(files: TokenizerFiles) -> SentencePieceSettings:
    content = files.tokenizer_json or {}
    normalizers = list(normalizer_steps(content.get("normalizer")))
    splits = [step for step in pre_tokenizer_steps(content.get("pre_tokenizer")) if isinstance(step, dict)]
    return SentencePieceSettings(
        is_unigram=True,
        adds_space_prefix=any(_prepends(step) for step in splits),
        removes_extra_whitespaces=any(step.get("type") == "WhitespaceSplit" for step in splits)
        or any(_joins_spaces(step) for step in normalizers),
        precompiled_charsmap=_charsmap(normalizers),
    )


def _prepends(step: Mapping[str, Any]) -> bool:
    if step.get("type") != "Metaspace":
        return False
    return bool(step["prepend_scheme"] != "never" if "prepend_scheme" in step else step.get("add_prefix_space", True))


def _joins_spaces(step: Mapping[str, Any]) -> bool:
    return step.get("type") == "Replace" and step.get("pattern") == {"Regex": _SPACES}


def _charsmap(normalizers: list[Mapping[str, Any]]) -> bytes:
    encoded = next(
        (step.get("precompiled_charsmap") for step in normalizers if step.get("type") == "Precompiled"), None
    )
    try:
        return base64.b64decode(encoded or "", validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise TokenizerError("tokenizer.json: precompiled_charsmap is not base64; download the file again") from error


def _unsupported_normalizers(files: TokenizerFiles) -> list[str]:
    normalizers = normalizer_steps((files.tokenizer_json or {}).get("normalizer"))
    return [
        f"tokenizer.json normalizes text by {step.get('type')}, which llama.cpp does not do for a unigram vocabulary"
        for step in normalizers
        if step.get("type") not in _APPLIED_NORMALIZERS
    ]
