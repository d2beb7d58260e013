"""The tokens added to a BPE vocabulary, gathered from the files as transformers does when it loads them."""

from collections.abc import Mapping
from dataclasses import replace

from toolkit.tokenizer.files import (
    AddedToken,
    TokenizerFiles,
    decoder_added_tokens,
    named_special_texts,
    tokenizer_json_added_tokens,
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
