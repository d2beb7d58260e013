"""The tokens added to the vocabulary of a tokenizer.json, gathered from the files as transformers does when it loads them."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from toolkit.tokenizer.bpe_model import too_few_rows, vocabulary_ids
from toolkit.tokenizer.files import (
    AddedToken,
    TokenizerFiles,
    decoder_added_tokens,
    named_special_texts,
    tokenizer_json_added_tokens,
)
from toolkit.tokenizer.vocabulary import Token, TokenType, added_token, padded


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
    """Return a token for each row, the trained pieces under the added ones, and warnings; `plain_text` spells the latter.

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
