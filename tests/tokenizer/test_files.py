from pathlib import Path

import pytest
from tokenizer.kit_vocabularies import copied, kit_request

from toolkit.errors import CheckpointError, TokenizerError
from toolkit.tokenizer import read_tokenizer

FILES = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")


@pytest.mark.parametrize("name", FILES)
def test_byte_order_mark_and_crlf_change_nothing(name: str, tmp_path: Path) -> None:
    directory = copied("qwen2", tmp_path)
    expected = read_tokenizer(kit_request("qwen2", directory))
    content = (directory / name).read_bytes()
    (directory / name).write_bytes(b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n"))

    assert read_tokenizer(kit_request("qwen2", directory)) == expected


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_other_encodings_are_refused_with_the_reason(name: str, encoding: str, tmp_path: Path) -> None:
    directory = copied("qwen2", tmp_path)
    (directory / name).write_bytes('{"é": 1}'.encode(encoding))

    with pytest.raises(CheckpointError, match=f"{name} is (UTF-16|not UTF-8).*save it as UTF-8"):
        read_tokenizer(kit_request("qwen2", directory))


@pytest.mark.parametrize("content", ["[]", "{", '"text"'])
def test_file_that_is_no_json_object_is_named(content: str, tmp_path: Path) -> None:
    directory = copied("qwen2", tmp_path)
    (directory / "tokenizer.json").write_text(content, encoding="utf-8")

    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        read_tokenizer(kit_request("qwen2", directory))


@pytest.mark.parametrize("index", ["512", -1, True, None])
def test_added_token_without_a_proper_id_is_named(index: object, tmp_path: Path) -> None:
    directory = copied("llama2", tmp_path)
    written = {"512": '"512"', "-1": "-1", "True": "true", "None": "null"}[str(index)]
    (directory / "added_tokens.json").write_text(f'{{"<x>": {written}}}', encoding="utf-8")

    with pytest.raises(TokenizerError, match=r"added_tokens\.json: '<x>' has the id"):
        read_tokenizer(kit_request("llama2", directory))


def test_reading_writes_nothing_into_the_directory(tmp_path: Path) -> None:
    directory = copied("llama2", tmp_path)
    before = {path: path.stat().st_mtime_ns for path in directory.rglob("*")}

    read_tokenizer(kit_request("llama2", directory))

    assert {path: path.stat().st_mtime_ns for path in directory.rglob("*")} == before
