from pathlib import Path

import pytest
import tokenizers
from tokenizer.kit_vocabularies import SOURCES, TOKENS, TYPES, copied, edit, kit_request
from tokenizer.vocabulary_file import SAMPLE, llama_ids, write_vocabulary

from toolkit.errors import TokenizerError
from toolkit.tokenizer import read_tokenizer


def test_llama_cpp_splits_words_as_the_tokenizers_library_does(tmp_path: Path) -> None:
    file = write_vocabulary(tmp_path / "v.gguf", read_tokenizer(kit_request("bert")).metadata)
    original = tokenizers.Tokenizer.from_file(str(SOURCES / "bert" / "tokenizer.json"))

    for text in ("Hello, World! It's a test of 12345 words.", "naïve café", SAMPLE.split("\n")[0]):
        assert llama_ids(file, text) == original.encode(text, add_special_tokens=False).ids


def test_vocab_txt_alone_gives_what_tokenizer_json_gives(tmp_path: Path) -> None:
    whole = read_tokenizer(kit_request("bert"))
    alone = read_tokenizer(kit_request("bert", copied("bert", tmp_path, "tokenizer.json")))

    assert alone.metadata == whole.metadata


def test_special_tokens_of_the_class_stand_in_for_a_silent_config(tmp_path: Path) -> None:
    whole = read_tokenizer(kit_request("bert"))
    directory = copied("bert", tmp_path, "tokenizer.json", "tokenizer_config.json")

    assert read_tokenizer(kit_request("bert", directory)).metadata == whole.metadata


def test_a_cased_vocabulary_keeps_its_case(tmp_path: Path) -> None:
    directory = copied("bert", tmp_path, "tokenizer.json")
    edit(directory / "tokenizer_config.json", lambda config: config.update(do_lower_case=False))

    assert read_tokenizer(kit_request("bert", directory)).metadata["tokenizer.ggml.normalizer.lowercase"].value is False


def test_line_ends_of_windows_change_nothing(tmp_path: Path) -> None:
    directory = copied("bert", tmp_path, "tokenizer.json")
    file = directory / "vocab.txt"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))

    assert read_tokenizer(kit_request("bert", directory)).metadata == read_tokenizer(kit_request("bert")).metadata


def test_rows_without_a_token_are_filled(tmp_path: Path) -> None:
    tokenizer = read_tokenizer(kit_request("bert", n_embedding_rows=392))

    assert tokenizer.metadata[TOKENS].value[390:] == ("▁[PAD390]", "▁[PAD391]")
    assert tokenizer.metadata[TYPES].value[390:] == (5, 5)


def test_an_empty_vocab_txt_is_refused(tmp_path: Path) -> None:
    directory = copied("bert", tmp_path, "tokenizer.json")
    (directory / "vocab.txt").write_text("\n", encoding="utf-8")

    with pytest.raises(TokenizerError, match=r"vocab\.txt is empty, expected one token a line"):
        read_tokenizer(kit_request("bert", directory))


def test_another_mark_of_continuations_is_refused(tmp_path: Path) -> None:
    directory = copied("bert", tmp_path)
    edit(directory / "tokenizer.json", lambda content: content["model"].update(continuing_subword_prefix="@@"))

    with pytest.raises(TokenizerError, match=r"continuing_subword_prefix is '@@'; llama\.cpp knows '##' only"):
        read_tokenizer(kit_request("bert", directory))


def test_words_are_marked_at_their_beginning_and_control_tokens_nowhere() -> None:
    tokens = read_tokenizer(kit_request("bert")).metadata[TOKENS].value
    assert {"[CLS]", "[SEP]", "[MASK]"} <= set(tokens)
    assert not any(token.startswith("##") for token in tokens)
