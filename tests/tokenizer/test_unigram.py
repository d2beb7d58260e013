import json
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import tokenizers
from tokenizer.kit_vocabularies import SCORES, SOURCES, TOKENS, TYPES, copied, edit, kit_request
from tokenizer.unigram_file import train_unigram, xlm_roberta_json
from tokenizer.vocabulary_file import SAMPLE, llama_ids, write_vocabulary

from toolkit.errors import TokenizerError
from toolkit.tokenizer import Tokenizer, TokenizerRequest, read_tokenizer
from toolkit.tokenizer.sentencepiece_model import read_settings

CHARSMAP, EXTRA_SPACES, SPACE_PREFIX = (
    f"tokenizer.ggml.{name}" for name in ("precompiled_charsmap", "remove_extra_whitespaces", "add_space_prefix")
)
TEXTS = ("hello world", "  two  spaces   here ", "\uff21 \ufb01le", "unknown ж letters")


def read(directory: Path, style: str, n_rows: int = 64) -> Tokenizer:
    unknown = {"unk_token_id": 3 if style == "xlm_roberta" else 0}
    return read_tokenizer(TokenizerRequest(directory, unknown, n_rows, (style,)))


def written(directory: Path, **options: Any) -> bytes:
    model = train_unigram(directory, **options)
    (directory / "spiece.model").write_bytes(model)
    return model


@pytest.mark.parametrize(
    "options", [{}, {"remove_extra_whitespaces": False}, {"remove_extra_whitespaces": False, "add_dummy_prefix": False}]
)
def test_llama_cpp_splits_text_as_sentencepiece_does(options: dict[str, bool], tmp_path: Path) -> None:
    model = written(tmp_path, **options)
    tokenizer = read(tmp_path, "t5")
    file = write_vocabulary(tmp_path / "v.gguf", tokenizer.metadata)

    assert tokenizer.model == "t5"
    assert tokenizer.metadata[EXTRA_SPACES].value is options.get("remove_extra_whitespaces", True)
    assert tokenizer.metadata[SPACE_PREFIX].value is options.get("add_dummy_prefix", True)
    assert bytes(tokenizer.metadata[CHARSMAP].value) == read_settings(model).precompiled_charsmap
    original = sentencepiece.SentencePieceProcessor(model_proto=model)
    for text in TEXTS:
        assert llama_ids(file, text) == original.encode(text)


@pytest.mark.parametrize("case", ["t5", "xlm_roberta"])
def test_llama_cpp_splits_the_kits_sample_as_sentencepiece_does(case: str, tmp_path: Path) -> None:
    file = write_vocabulary(tmp_path / "v.gguf", read_tokenizer(kit_request(case)).metadata)
    source = next(SOURCES.joinpath(case).glob("*.model"))
    moved = 1 if case == "xlm_roberta" else 0
    # llama.cpp has no bytes to fall back to in such vocabularies.
    text = "".join(letter for letter in SAMPLE if letter == " " or "a" <= letter <= "z")

    expected = [index + moved for index in sentencepiece.SentencePieceProcessor(model_file=str(source)).encode(text)]
    assert llama_ids(file, text) == expected


def test_a_space_that_llama_cpp_adds_unasked_is_warned_of(tmp_path: Path) -> None:
    written(tmp_path, add_dummy_prefix=False)

    assert any("llama.cpp puts a space before every text" in warning for warning in read(tmp_path, "t5").warnings)


def json_only(directory: Path) -> dict[str, Any]:
    model = train_unigram(directory)
    content = xlm_roberta_json(model, read_settings(model).precompiled_charsmap)
    (directory / "tokenizer.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return content


def test_llama_cpp_splits_text_as_tokenizer_json_says_where_there_is_nothing_else(tmp_path: Path) -> None:
    json_only(tmp_path)
    file = write_vocabulary(tmp_path / "v.gguf", read(tmp_path, "xlm_roberta").metadata)
    original = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))

    for text in TEXTS:
        assert llama_ids(file, text) == original.encode(text, add_special_tokens=False).ids


def test_tokenizer_json_and_the_sentencepiece_file_give_the_same_vocabulary(tmp_path: Path) -> None:
    json_only(tmp_path)
    from_json = read(tmp_path, "xlm_roberta").metadata
    (tmp_path / "sentencepiece.bpe.model").write_bytes(train_unigram(tmp_path))

    from_both = read(tmp_path, "xlm_roberta").metadata
    n_pieces = from_json[TOKENS].value.index("<mask>")
    assert from_both[TOKENS].value[:n_pieces] == from_json[TOKENS].value[:n_pieces]
    assert {key: value for key, value in from_both.items() if key not in (TOKENS, TYPES, SCORES)} == {
        key: value for key, value in from_json.items() if key not in (TOKENS, TYPES, SCORES)
    }


def test_tokens_that_other_files_add_keep_their_names(tmp_path: Path) -> None:
    model = written(tmp_path)
    first = sentencepiece.SentencePieceProcessor(model_proto=model).vocab_size()
    added = {"added_tokens_decoder": {str(first): {"content": "<extra_id_0>", "special": True}}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(added), encoding="utf-8")

    metadata = read(tmp_path, "t5", first + 2).metadata
    assert metadata[TOKENS].value[first:] == ("<extra_id_0>", f"[PAD{first + 1}]")
    assert metadata[TYPES].value[first:] == (3, 5)


@pytest.mark.parametrize(("case", "unknown"), [("t5", 2), ("xlm_roberta", 3)])
def test_tokens_that_repeat_a_piece_leave_it_as_it_is(case: str, unknown: int, tmp_path: Path) -> None:
    plain = read_tokenizer(kit_request(case)).metadata
    directory = copied(case, tmp_path)
    repeated = {
        str(index): {"content": text, "special": True} for index, text in enumerate(plain[TOKENS].value[: unknown + 1])
    }
    edit(directory / "tokenizer_config.json", lambda config: config.update(added_tokens_decoder=repeated))

    again = read_tokenizer(kit_request(case, directory)).metadata
    assert [again[key] for key in (TOKENS, TYPES, SCORES)] == [plain[key] for key in (TOKENS, TYPES, SCORES)]
    assert again[TYPES].value[unknown] == 2


def test_xlm_roberta_without_a_template_warns_that_texts_lose_their_beginning() -> None:
    assert any("begins with <s>" in warning for warning in read_tokenizer(kit_request("xlm_roberta")).warnings)


def test_a_bpe_file_of_a_t5_is_read_as_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(train_unigram(tmp_path, size=50, model_type="bpe"))

    request = TokenizerRequest(tmp_path, {}, 64, ("t5", "sentencepiece"))
    assert read_tokenizer(request).model == "llama"


@pytest.mark.parametrize("style", ["t5", "xlm_roberta"])
def test_a_sentencepiece_file_with_more_pieces_than_rows_is_refused(style: str, tmp_path: Path) -> None:
    for name in ("spiece.model", "sentencepiece.bpe.model"):
        (tmp_path / name).write_bytes(train_unigram(tmp_path))

    with pytest.raises(TokenizerError, match="only 10 rows"):
        read(tmp_path, style, 10)


def test_a_foreign_normalizer_is_warned_of(tmp_path: Path) -> None:
    content = json_only(tmp_path)
    content["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "Lowercase"}, content["normalizer"]]}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")

    assert any("normalizes text by Lowercase" in warning for warning in read(tmp_path, "xlm_roberta").warnings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocab": []}, "vocab is missing or empty, expected a list of pieces with scores"),
        ({"vocab": [["a", "b"]]}, r"piece 0 is \['a', 'b'\], expected a text and a score"),
        ({"vocab": [["a", 0.0]] * 65}, "token 64 .* only 64 rows"),
    ],
)
def test_a_malformed_unigram_model_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    content = json_only(tmp_path)
    content["model"] |= change
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")

    with pytest.raises(TokenizerError, match=message):
        read(tmp_path, "t5")


def test_a_table_that_is_no_base64_is_refused(tmp_path: Path) -> None:
    content = json_only(tmp_path)
    content["normalizer"]["precompiled_charsmap"] = "§"
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")

    with pytest.raises(TokenizerError, match="precompiled_charsmap is not base64"):
        read(tmp_path, "t5")


@pytest.mark.parametrize("data", [b"\x0b", b"\x12\x7f", b"\xff" * 11, b"\x0d\x00"])
def test_bytes_that_are_no_protocol_buffer_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="at byte"):
        read_settings(data)


@pytest.mark.parametrize(
    ("pre_tokenizer", "prefixed"),
    [
        ({"type": "Metaspace", "prepend_scheme": "always"}, True),
        ({"type": "Metaspace", "prepend_scheme": "never"}, False),
        ({"type": "Metaspace", "add_prefix_space": False}, False),
        ({"type": "Metaspace"}, True),
        ({"type": "WhitespaceSplit"}, False),
    ],
)
def test_the_pre_tokenizer_says_whether_a_space_comes_first(pre_tokenizer: Any, prefixed: bool, tmp_path: Path) -> None:
    json_only(tmp_path)
    edit(tmp_path / "tokenizer.json", lambda content: content.update(pre_tokenizer=pre_tokenizer))
    assert read(tmp_path, "xlm_roberta").metadata[SPACE_PREFIX].value is prefixed


def test_pieces_for_bytes_and_the_unknown_piece_have_types_of_their_own(tmp_path: Path) -> None:
    json_only(tmp_path)

    def with_byte(content: dict[str, Any]) -> None:
        content["model"]["vocab"][10][0] = "<0x41>"
        content["model"]["byte_fallback"] = True
        content["model"]["unk_id"] = 4

    edit(tmp_path / "tokenizer.json", with_byte)
    types = read(tmp_path, "xlm_roberta").metadata[TYPES].value
    assert (types[4], types[10], types[11]) == (2, 6, 1)
    edit(tmp_path / "tokenizer.json", lambda content: content["model"].update(byte_fallback=False))
    assert read(tmp_path, "xlm_roberta").metadata[TYPES].value[10] == 1
