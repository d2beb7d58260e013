"""A vocabulary is held against its source key by key."""

from dataclasses import replace

import numpy
import pytest

from toolkit.gguf.format import ValueType, array, boolean, uint32
from toolkit.gguf.reader import read_gguf
from toolkit.sources.gguf_source import source_from_gguf
from toolkit.verification.check import Outcome
from toolkit.verification.vocabulary import check_vocabulary

TYPES, SCORES = "tokenizer.ggml.token_type", "tokenizer.ggml.scores"
EOS, PAD = "tokenizer.ggml.eos_token_id", "tokenizer.ggml.padding_token_id"


@pytest.fixture
def path(converted):
    return converted("llama2", "q8_0")


def failing(path, change=None, source_change=None):
    """Return what is found wrong in a file whose metadata was changed: name of the check -> evidence."""
    source, file = source_from_gguf(path, allow_requantize=True), read_gguf(path)
    source = replace(source, metadata=(source_change or dict)(source.metadata))
    found = check_vocabulary(source, replace(file, metadata=(change or dict)(file.metadata)))
    return {check.name: check.evidence for check in found if check.outcome is Outcome.FAIL}


def with_(**changes):
    return lambda metadata: metadata | {f"tokenizer.ggml.{key}": value for key, value in changes.items()}


def without(key):
    return lambda metadata: {name: value for name, value in metadata.items() if name != key}


def test_a_file_passes_against_itself(path):
    assert failing(path) == {}


@pytest.mark.parametrize("types", [(), (3,), (1,) * 100_000])
def test_tokens_are_compared_where_both_files_have_another_number_of_types(path, types):
    changed = with_(token_type=array(ValueType.INT32, types))
    assert failing(path, changed, changed) == {}
    texts = read_gguf(path).metadata["tokenizer.ggml.tokens"].value
    renamed = with_(tokens=array(ValueType.STRING, (*texts[:5], "another", *texts[6:])))
    evidence = failing(path, lambda metadata: renamed(changed(metadata)), changed)["vocabulary"]
    assert evidence.startswith("token 5 is 'another' of type ")


def test_a_special_token_that_is_absent_is_told_and_one_that_was_added_is_no_fault(path):
    found = failing(path, without(EOS))
    assert found.keys() == {"special tokens"}
    assert found["special tokens"].startswith("eos_token_id is absent, expected ")
    assert failing(path, with_(mask_token_id=uint32(3))) == {}


@pytest.mark.parametrize("key", ["eos_token_id", "bos_token_id"])
def test_another_special_token_is_told(path, key):
    assert f"{key} is 7, expected" in failing(path, with_(**{key: uint32(7)}))["special tokens"]


def test_a_flag_of_what_is_added_is_compared(path):
    before = read_gguf(path).metadata["tokenizer.ggml.add_bos_token"].value
    assert "add_bos_token is" in failing(path, with_(add_bos_token=boolean(not before)))["special tokens"]


def test_one_score_that_differs_is_told(path):
    scores = numpy.array(read_gguf(path).metadata[SCORES].value, numpy.float32)
    scores[9] -= 1
    assert failing(path, with_(scores=array(ValueType.FLOAT32, scores.tolist()))) == {"vocabulary": "the scores"}


def test_one_token_too_few_is_told_though_source_and_embedding_agree(path):
    tokens = read_gguf(path).metadata["tokenizer.ggml.tokens"].value
    found = failing(path, with_(tokens=array(ValueType.STRING, tokens[:-1])))
    assert found.keys() == {"token count", "vocabulary"}


def test_the_text_of_a_token_that_neither_uses_does_not_matter(path):
    tokens = list(read_gguf(path).metadata["tokenizer.ggml.tokens"].value)
    types = list(read_gguf(path).metadata[TYPES].value)
    types[20], tokens[20] = 5, "another"
    unused = array(ValueType.INT32, types)
    renamed = with_(token_type=unused, tokens=array(ValueType.STRING, tokens))
    assert failing(path, renamed, with_(token_type=unused)) == {}
    assert "token 20 is 'another' of type 5" in failing(path, renamed)["vocabulary"]
