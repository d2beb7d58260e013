"""Read a sentencepiece-like vocabulary from tokenizer.json alone: BPE over raw text, with bytes as fallback."""

from collections.abc import Iterator

from toolkit.tokenizer.byte_level_bpe import read_merges
from toolkit.tokenizer.files import AddedToken, TokenizerFiles, named_special_texts, normalizer_steps, role_texts
from toolkit.tokenizer.vocabulary import (
    ADDED_SCORE,
    BYTE,
    Token,
    TokenType,
    Vocabulary,
    added_token,
    beyond,
    gather_added_tokens,
    padded,
    too_few_rows,
    vocabulary_ids,
)

_CLASS_TEXTS = {"unk": "<unk>", "bos": "<s>", "eos": "</s>"}
"""What the tokenizer's class calls special where tokenizer_config.json names nothing."""

_GEMMA4_VISIBLE = frozenset(
    {"<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", "<|tool_response>", "<tool_response|>", '<|"|>'}
)
"""Kept visible in Gemma 4's output, because the parser of its chat format reads them."""


def read_llama_hf(files: TokenizerFiles, n_rows: int) -> Vocabulary | None:
    """Return the vocabulary of tokenizer.json as model `llama`, or None if it is not of that kind.

    Every score is -1000, because tokenizer.json has none. Unlike LlamaHfVocab (gguf/vocab.py in llama.cpp) tokens
    beyond the vocabulary are filled in, and added tokens that are marked special are CONTROL at any id.
    """
    if not _is_sentencepiece_like(files):
        return None
    warning = (
        "there is no tokenizer.model, so the scores of its pieces are unknown: llama.cpp may split text into other "
        "tokens than the model was trained with; copy tokenizer.model from the original model if it has one"
    )
    tokens, beyond_warnings = _tokens(files, n_rows)
    return Vocabulary("llama", "default", tokens, scored=True, warnings=(warning, *beyond_warnings))


def read_gemma4(files: TokenizerFiles, n_rows: int) -> Vocabulary | None:
    """Return the vocabulary of tokenizer.json as model `gemma4`, which has merges and needs no scores."""
    if not _is_sentencepiece_like(files):
        return None
    tokens, warnings = _tokens(files, n_rows)
    return Vocabulary(
        "gemma4",
        None,
        tuple(_visible(token) for token in tokens),
        scored=True,
        merges=read_merges(files),
        warnings=(*warnings, *_lost_prefix(files)),
    )


def _lost_prefix(files: TokenizerFiles) -> Iterator[str]:
    steps = normalizer_steps((files.tokenizer_json or {}).get("normalizer"))
    if any(step.get("type") == "Prepend" for step in steps):
        yield (
            "tokenizer.json puts a space before every text, which llama.cpp does not do for this vocabulary: most texts "
            "become other tokens than the model was trained with, at their beginning"
        )


def _is_sentencepiece_like(files: TokenizerFiles) -> bool:
    model = files.model
    decoder = (files.tokenizer_json or {}).get("decoder") or {}
    bytes_fall_back = model.get("type") == "BPE" and bool(model.get("byte_fallback"))
    return bytes_fall_back and isinstance(decoder, dict) and decoder.get("type") == "Sequence"


def _tokens(files: TokenizerFiles, n_rows: int) -> tuple[tuple[Token, ...], list[str]]:
    named = {*named_special_texts(files), *(_CLASS_TEXTS | role_texts(files)).values()}
    ids = vocabulary_ids(files.model)
    tokens = {index: _piece(text, named) for text, index in ids.items()}
    last = max(tokens)
    if last >= n_rows:
        raise too_few_rows(last, tokens[last].text, n_rows)
    gathered = gather_added_tokens(files, ids)
    for added in gathered:
        if added.id not in tokens or tokens[added.id].type == TokenType.NORMAL:
            tokens[added.id] = _added(added, named)
    return tuple(padded(tokens, n_rows)), beyond(gathered, n_rows)


def _piece(text: str, named: set[str]) -> Token:
    if BYTE.fullmatch(text):
        return Token(text, TokenType.BYTE, ADDED_SCORE)
    return Token(text, TokenType.CONTROL if text in named else TokenType.NORMAL, ADDED_SCORE)


def _added(added: AddedToken, named: set[str]) -> Token:
    return added_token(added.text, added.special or added.text in named)


def _visible(token: Token) -> Token:
    return Token(token.text, TokenType.USER_DEFINED, token.score) if token.text in _GEMMA4_VISIBLE else token
