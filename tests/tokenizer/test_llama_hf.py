"""Sentencepiece-like vocabularies of which only tokenizer.json is there."""

from dataclasses import replace
from pathlib import Path

import pytest
import tokenizers
from tokenizer.kit_vocabularies import SCORES, TOKENS, TYPES, copied, edit, kit_request
from tokenizer.vocabulary_file import SAMPLE, llama_ids, loaded_vocabulary, write_vocabulary

from toolkit.architectures.families.gemma3 import GEMMA3
from toolkit.errors import TokenizerError
from toolkit.tokenizer import Tokenizer, TokenizerRequest, read_tokenizer
from toolkit.tokenizer.vocabulary import TokenType


def read(directory: Path, n_rows: int = 400) -> Tokenizer:
    return read_tokenizer(kit_request("llama2", directory, n_embedding_rows=n_rows))


def test_ids_are_those_of_the_sentencepiece_model(tmp_path: Path) -> None:
    whole = read(copied("llama2", tmp_path / "whole"))
    alone = read(copied("llama2", tmp_path / "alone", "tokenizer.model"))

    assert alone.model == "llama"
    assert alone.metadata[TOKENS] == whole.metadata[TOKENS]
    assert alone.metadata[TYPES] == whole.metadata[TYPES]
    assert alone.metadata.keys() == whole.metadata.keys()
    assert set(alone.metadata[SCORES].value) == {-1000.0}


def test_lost_scores_are_warned_of_and_the_vocabulary_loads(tmp_path: Path) -> None:
    tokenizer = read(copied("llama2", tmp_path, "tokenizer.model"))

    assert [warning for warning in tokenizer.warnings if "no tokenizer.model" in warning]
    with loaded_vocabulary(write_vocabulary(tmp_path / "v.gguf", tokenizer.metadata)) as vocabulary:
        assert vocabulary


def test_added_tokens_keep_their_kind_and_rows_are_filled(tmp_path: Path) -> None:
    directory = copied("llama2", tmp_path, "tokenizer.model")
    added = [
        {"id": 400, "content": "<|im_start|>", "special": False},
        {"id": 401, "content": "▁▁▁", "special": False},
        {"id": 402, "content": "<extra>", "special": True},
        {"id": 399, "content": "marked", "special": True},
    ]
    edit(directory / "tokenizer.json", lambda content: content["added_tokens"].extend(added))

    tokenizer = read(directory, 404)

    kinds = dict(zip(tokenizer.metadata[TOKENS].value, tokenizer.metadata[TYPES].value, strict=True))
    assert tokenizer.n_tokens == 404
    assert kinds["<|im_start|>"] == kinds["<extra>"] == kinds["marked"] == TokenType.CONTROL
    assert kinds["   "] == TokenType.USER_DEFINED
    assert kinds["[PAD403]"] == TokenType.UNUSED


def test_added_tokens_beyond_the_embedding_are_named(tmp_path: Path) -> None:
    directory = copied("llama2", tmp_path, "tokenizer.model")
    added = [{"id": index, "content": f"<extra{index}>", "special": True} for index in (400, 401)]
    edit(directory / "tokenizer.json", lambda content: content["added_tokens"].extend(added))

    for request in (kit_request("llama2", directory, n_embedding_rows=400), gemma4_request(directory)):
        (warning,) = [line for line in read_tokenizer(request).warnings if "no row in the embedding" in line]
        assert warning.startswith("2 added token(s) from 400 ('<extra400>')")


def gemma4_request(directory: Path) -> TokenizerRequest:
    return replace(kit_request("llama2", directory, n_embedding_rows=400), styles=("gemma4",))


@pytest.mark.parametrize("prepends", [True, False])
def test_a_space_that_llama_cpp_will_not_prepend_is_warned_of(prepends: bool, tmp_path: Path) -> None:
    directory = copied("llama2", tmp_path, "tokenizer.model")
    replaced = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    steps = [{"type": "Prepend", "prepend": "▁"}, replaced] if prepends else [replaced]
    edit(
        directory / "tokenizer.json",
        lambda content: content.update(normalizer={"type": "Sequence", "normalizers": steps}),
    )

    warnings = read_tokenizer(gemma4_request(directory)).warnings

    assert [line for line in warnings if "puts a space before every text" in line] == list(warnings)
    assert len(warnings) == prepends


def test_vocabulary_larger_than_the_embedding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"token 399 .* only 300 rows"):
        read(copied("llama2", tmp_path, "tokenizer.model"), 300)


def test_a_gemma_without_tokenizer_model_is_split_by_its_merges(tmp_path: Path) -> None:
    directory = copied("gemma4", tmp_path)
    # The kit's vocabulary puts a space before every text; Gemma's does not.
    plain = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    edit(directory / "tokenizer.json", lambda content: content.update(normalizer=plain))
    tokenizer = read_tokenizer(kit_request("gemma4", directory, styles=GEMMA3.vocabularies))
    original = tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json"))

    assert tokenizer.model == "gemma4"
    file = write_vocabulary(tmp_path / "v.gguf", tokenizer.metadata)
    assert llama_ids(file, SAMPLE) == original.encode(SAMPLE, add_special_tokens=False).ids
