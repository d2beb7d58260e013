"""Vocabularies in vocab.json and merges.txt: the merges line by line, and the special tokens of their tokenizer's class."""

import json

import pytest

from toolkit.tokenizer.byte_level_bpe import END_OF_TEXT, read_merges_file, with_tokenizer_json
from toolkit.tokenizer.files import open_tokenizer_files


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "merges.txt").write_text("a b\n", encoding="utf-8")
    return tmp_path


def settings_of(directory, vocabulary, config, **named):
    (directory / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (directory / "tokenizer_config.json").write_text(json.dumps(named), encoding="utf-8")
    return with_tokenizer_json(open_tokenizer_files(directory), config)[0].tokenizer_json


@pytest.mark.parametrize("named", [{"tokenizer_class": "GPT2Tokenizer"}, {"tokenizer_class": "GPT2TokenizerFast"}, {}])
def test_the_class_is_told_by_its_name_or_by_the_model(directory, named):
    made = settings_of(directory, {"a": 0, "b": 1, END_OF_TEXT: 2}, {"model_type": "gpt2"}, **named)
    assert [(token["id"], token["content"]) for token in made["added_tokens"]] == [(2, END_OF_TEXT)]
    assert len(made["pre_tokenizer"]["pretokenizers"]) == 1


def test_another_class_splits_as_it_does_whatever_the_model_is_called(directory):
    plain, fast = (
        settings_of(
            directory, {"a": 0, END_OF_TEXT: 1}, {"model_type": "gpt2"}, tokenizer_class=f"Qwen2Tokenizer{suffix}"
        )
        for suffix in ("", "Fast")
    )
    gpt2 = settings_of(directory, {"a": 0, END_OF_TEXT: 1}, {"model_type": "gpt2"})
    assert fast["pre_tokenizer"] == plain["pre_tokenizer"] != gpt2["pre_tokenizer"]


def test_an_end_of_text_that_the_vocabulary_lacks_is_not_made_up(directory):
    made = settings_of(directory, {"a": 0, "b": 1}, {"model_type": "gpt2"})
    assert made["added_tokens"] == []


def test_only_a_first_line_that_begins_with_a_sharp_is_a_heading(tmp_path):
    file = tmp_path / "merges.txt"
    file.write_text("#version: 0.2\n# #\nh e\n", encoding="utf-8")
    assert read_merges_file(file) == (["# #", "h e"], ())
    file.write_text("h e\n# a\n", encoding="utf-8")
    assert read_merges_file(file) == (["h e", "# a"], ())
