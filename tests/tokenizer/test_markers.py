"""Markers of a chat that a sentencepiece model has as ordinary pieces, and other files as special tokens."""

import json
import shutil
from pathlib import Path

import pytest
from tokenizer.kit_vocabularies import TOKENS, TYPES, copied, edit, kit_request
from tokenizer.vocabulary_file import llama_ids, write_vocabulary
from twins import changed_case, convert_edited

from toolkit.gguf.reader import read_gguf
from toolkit.sources.hf_source import source_from_checkpoint
from toolkit.tokenizer import read_tokenizer
from toolkit.tokenizer.encoding import source_encoder
from toolkit.tokenizer.vocabulary import TokenType
from toolkit.verification.token_ids import check_token_ids

INDEX = 300
FLAGS = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
NONE_SAYS = ("tokenizer.json", "tokenizer_config.json")


def with_marker_piece(directory: Path, marker: str) -> None:
    """Rename an ordinary piece of tokenizer.model; its place, score and type stay.

    A model begins with its pieces: each a tag, its length, and in it a tag, the length of the text, the text, the rest.
    """
    path = directory / "tokenizer.model"
    data = path.read_bytes()
    start = 0
    for _ in range(INDEX):
        start += 2 + data[start + 1]
    assert (data[start], data[start + 2]) == (10, 10)
    end, text_end = start + 2 + data[start + 1], start + 4 + data[start + 3]
    body = b"\n" + bytes([len(marker)]) + marker.encode() + data[text_end:end]
    path.write_bytes(data[:start] + b"\n" + bytes([len(body)]) + body + data[end:])


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def type_of_marker(directory: Path) -> int:
    metadata = read_tokenizer(kit_request("llama2", directory, n_embedding_rows=400)).metadata
    assert metadata[TOKENS].value[INDEX] == "<|im_start|>"
    return metadata[TYPES].value[INDEX]


@pytest.mark.parametrize(
    "said_by", ["tokenizer.json", "additional_special_tokens", "added_tokens.json", "special_tokens_map.json", None]
)
def test_a_marker_is_a_control_token_whichever_file_says_so(said_by, tmp_path):
    directory = copied("llama2", tmp_path, *NONE_SAYS)
    with_marker_piece(directory, "<|im_start|>")
    if said_by == "tokenizer.json":
        directory = copied("llama2", tmp_path / "whole")
        with_marker_piece(directory, "<|im_start|>")
        added = FLAGS | {"id": INDEX, "content": "<|im_start|>", "special": True}
        edit(directory / "tokenizer.json", lambda content: content["added_tokens"].append(added))
    elif said_by == "additional_special_tokens":
        write_json(directory / "tokenizer_config.json", {"additional_special_tokens": ["<|im_start|>"]})
    elif said_by is not None:
        write_json(directory / "added_tokens.json", {"<|im_start|>": INDEX})
        if said_by == "special_tokens_map.json":
            write_json(directory / said_by, {"additional_special_tokens": ["<|im_start|>"]})
    assert type_of_marker(directory) == (TokenType.NORMAL if said_by is None else TokenType.CONTROL)


def test_a_marker_that_is_not_special_is_user_defined(tmp_path):
    directory = copied("llama2", tmp_path)
    with_marker_piece(directory, "<think>")
    added = {"id": INDEX, "content": "<think>", "special": False}
    edit(directory / "tokenizer.json", lambda content: content["added_tokens"].append(added))
    tokenizer = read_tokenizer(kit_request("llama2", directory, n_embedding_rows=400))
    assert tokenizer.metadata[TYPES].value[INDEX] == TokenType.USER_DEFINED
    assert llama_ids(write_vocabulary(tmp_path / "v.gguf", tokenizer.metadata), "<think>") == [INDEX]


def test_a_word_that_a_file_names_for_padding_stays_a_word(tmp_path):
    directory = copied("llama2", tmp_path, *NONE_SAYS)
    with_marker_piece(directory, "pad")
    write_json(directory / "tokenizer_config.json", {"pad_token": "pad"})
    metadata = read_tokenizer(kit_request("llama2", directory, n_embedding_rows=400)).metadata
    assert metadata[TYPES].value[INDEX] == TokenType.NORMAL


@pytest.mark.parametrize("wrong", [False, True])
def test_verify_encodes_markers_and_finds_one_that_falls_apart(wrong, tmp_path):
    directory = changed_case("llama2", tmp_path)
    with_marker_piece(directory, "<|im_start|>")
    if wrong:
        file = convert_edited(without_tokenizer_json(directory, tmp_path / "blind" / "llama2")).rename(
            tmp_path / "wrong.gguf"
        )
    edit(directory / "tokenizer.json", mark_in_vocabulary)
    if not wrong:
        file = convert_edited(directory)
    check = check_token_ids(source_from_checkpoint(directory), directory, read_gguf(file))
    assert check.outcome == ("FAIL" if wrong else "PASS"), check
    assert not wrong or "'<|im_start|>'" in check.evidence


def mark_in_vocabulary(content: dict) -> None:
    vocabulary = content["model"]["vocab"]
    del vocabulary[next(text for text, index in vocabulary.items() if index == INDEX)]
    vocabulary["<|im_start|>"] = INDEX
    content["model"]["merges"] = []
    content["added_tokens"].append(FLAGS | {"id": INDEX, "content": "<|im_start|>", "special": True})


def without_tokenizer_json(directory: Path, copy: Path) -> Path:
    shutil.copytree(directory, copy)
    (copy / "tokenizer.json").unlink()
    return copy


def test_truncation_and_padding_of_a_training_run_do_not_touch_the_text(tmp_path):
    directory = copied("llama3", tmp_path)
    plain = source_encoder(directory, "gpt2").encode("Hello, world, this is a sentence")
    limits = {
        "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
        "padding": {
            "strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0,
            "pad_token": "!",
        },
    }  # fmt: skip
    edit(directory / "tokenizer.json", lambda content: content.update(limits))
    assert source_encoder(directory, "gpt2").encode("Hello, world, this is a sentence") == plain
