"""Which id an added token has, of several files that name it."""

from pathlib import Path

import pytest

from toolkit.tokenizer.files import AddedToken, TokenizerFiles
from toolkit.tokenizer.vocabulary import beyond, gather_added_tokens


def files(**parts):
    return TokenizerFiles(Path(), **{"tokenizer_json": None, "tokenizer_config": None, **parts})


def ids(found):
    return {token.text: token.id for token in found}


def test_the_id_of_tokenizer_json_wins_then_that_of_the_piece():
    written = {"added_tokens": [{"id": 5, "content": "<a>", "special": True}]}
    found = gather_added_tokens(files(tokenizer_json=written, added_tokens={"<a>": 7, "<b>": 8, "<c>": 9}), {"<b>": 2})
    assert ids(found) == {"<a>": 5, "<b>": 2, "<c>": 9}


@pytest.mark.parametrize(("vocabulary", "expected"), [({"a": 0, "b": 1}, 2), ({"a": 0, "<s>": 1}, 1), ({}, 0)])
def test_a_token_that_is_only_named_takes_the_next_free_id(vocabulary, expected):
    assert ids(gather_added_tokens(files(tokenizer_config={"bos_token": "<s>"}), vocabulary)) == {"<s>": expected}


def test_tokens_without_a_row_are_told_from_the_first_on():
    assert beyond([AddedToken(3, "a")], 4) == []
    assert beyond([AddedToken(4, "b"), AddedToken(9, "c")], 4) == [
        "2 added token(s) from 4 ('b') on have no row in the embedding; left out"
    ]
