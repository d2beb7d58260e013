"""The source's own tokenizer: which library reads it, and what it gives."""

import json

import pytest
from sentencepiece import SentencePieceProcessor
from tokenizer.kit_vocabularies import SOURCES, copied
from tokenizer.rank_files import SPECIAL_V7, ranked_tokens, tekken_json, write_json
from tokenizer.vocabulary_file import SAMPLE
from tokenizers import Tokenizer

from toolkit.errors import TokenizerError
from toolkit.tokenizer.byte_level_bpe import byte_of_letter
from toolkit.tokenizer.encoding import source_encoder

TEXT = "Hello, wörld 123"


def test_a_sentencepiece_model_is_read_by_sentencepiece():
    encoder = source_encoder(SOURCES / "llama2", "llama")
    assert encoder.origin == "tokenizer.model through sentencepiece"
    assert encoder.encode(TEXT) == SentencePieceProcessor(str(SOURCES / "llama2" / "tokenizer.model")).encode(TEXT)


def test_tokenizer_json_is_read_by_tokenizers_with_nothing_added():
    encoder = source_encoder(SOURCES / "llama3", "gpt2")
    whole = Tokenizer.from_file(str(SOURCES / "llama3" / "tokenizer.json"))
    assert encoder.encode(TEXT) == whole.encode(TEXT, add_special_tokens=False).ids != whole.encode(TEXT).ids


def test_xlm_robertas_ids_are_one_further_on_than_sentencepieces():
    encoder = source_encoder(SOURCES / "xlm_roberta", "t5")
    plain = SentencePieceProcessor(str(SOURCES / "xlm_roberta" / "sentencepiece.bpe.model")).encode("Hello ☂")
    assert encoder.encode("Hello ☂") == [index + 1 for index in plain]


def test_tekken_is_encoded_by_rank_as_tokenizer_json_of_the_same_merges_says(tmp_path):
    write_json(tmp_path / "tekken.json", tekken_json(ranked_tokens("mistral_nemo"), SPECIAL_V7, 24, "v7"))
    encoder = source_encoder(tmp_path, "gpt2")
    whole = Tokenizer.from_file(str(SOURCES / "mistral_nemo" / "tokenizer.json"))
    first = {token: rank for rank, token in enumerate(ranked_tokens("mistral_nemo"), start=24)}
    for text in (TEXT, SAMPLE, "CamelCase  and\n\n\ttabs, it's 1234"):
        expected = whole.encode(text, add_special_tokens=False).tokens
        alphabet = byte_of_letter()
        assert encoder.encode(text) == [first[bytes(alphabet[letter] for letter in token)] for token in expected]
    assert (encoder.origin, encoder.knows_added_tokens) == ("tekken.json by rank", False)


def test_a_tekken_whose_pattern_is_none_is_refused(tmp_path):
    content = tekken_json(ranked_tokens("mistral_nemo"), SPECIAL_V7, 24, "v7")
    content["config"]["pattern"] = "("
    write_json(tmp_path / "tekken.json", content)
    with pytest.raises(TokenizerError, match=r"tekken\.json: its pattern is refused by the tokenizers library"):
        source_encoder(tmp_path, "gpt2")


def test_without_either_there_is_no_encoder(tmp_path):
    assert source_encoder(copied("llama3", tmp_path, "tokenizer.json"), "gpt2") is None


@pytest.mark.parametrize(
    ("case", "model", "name"), [("llama2", "llama", "tokenizer.model"), ("llama3", "gpt2", "tokenizer.json")]
)
def test_a_damaged_file_is_refused(case, model, name, tmp_path):
    directory = copied(case, tmp_path)
    (directory / name).chmod(0o644)
    (directory / name).write_text(json.dumps({"model": {"type": "none"}}), encoding="utf-8")
    with pytest.raises(TokenizerError, match=rf"{name} is refused by"):
        source_encoder(directory, model)


def test_what_the_library_panics_over_is_refused(tmp_path):
    content = json.loads((SOURCES / "llama3" / "tokenizer.json").read_text(encoding="utf-8"))
    content["model"]["continuing_subword_prefix"] = "####"
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(TokenizerError, match=r"tokenizer\.json is more than the tokenizers library can handle"):
        source_encoder(tmp_path, "gpt2")
