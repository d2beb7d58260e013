import json
from pathlib import Path
from typing import Any

import pytest
from tokenizer.kit_vocabularies import copied, edit, kit_request

from toolkit.errors import ToolkitError
from toolkit.gguf.format import string
from toolkit.tokenizer import Tokenizer, read_tokenizer
from toolkit.tokenizer.chat_template import KEY, default_template, read_chat_template, with_chat_template

NAMED = [
    {"name": "default", "template": "{{ messages }}"},
    {"name": "tool_use", "template": "{{ tools }}"},
    {"name": "rag-2", "template": "{{ documents }}"},
]


def read(directory: Path) -> Tokenizer:
    return read_tokenizer(kit_request("llama3", directory))


def templates(tokenizer: Tokenizer) -> dict[str, Any]:
    return {key[10:]: value.value for key, value in tokenizer.metadata.items() if "chat_template" in key}


def declare(directory: Path, template: Any) -> None:
    edit(directory / "tokenizer_config.json", lambda content: content.update(chat_template=template))


def test_without_a_template_there_is_no_key(tmp_path: Path) -> None:
    assert templates(read(copied("llama3", tmp_path))) == {}


def test_template_of_the_tokenizer_config_is_copied(tmp_path: Path) -> None:
    directory = copied("llama3", tmp_path)
    declare(directory, "{{ messages }}\r\n")

    assert templates(read(directory)) == {"chat_template": "{{ messages }}\r\n"}


def test_named_list_gives_a_default_and_further_keys(tmp_path: Path) -> None:
    directory = copied("llama3", tmp_path)
    declare(directory, NAMED)

    assert templates(read(directory)) == {
        "chat_template": "{{ messages }}",
        "chat_templates": ("tool_use", "rag_2"),
        "chat_template.tool_use": "{{ tools }}",
        "chat_template.rag_2": "{{ documents }}",
    }


def test_named_list_without_a_default_gives_no_default(tmp_path: Path) -> None:
    directory = copied("llama3", tmp_path)
    declare(directory, NAMED[1:2])

    assert templates(read(directory)) == {"chat_templates": ("tool_use",), "chat_template.tool_use": "{{ tools }}"}


@pytest.mark.parametrize("declared", [False, True])
def test_files_of_their_own_count_where_the_tokenizer_config_has_nothing(declared: bool, tmp_path: Path) -> None:
    directory = copied("llama3", tmp_path)
    if declared:
        declare(directory, None)
    (directory / "chat_template.jinja").write_bytes("\ufeff{{ messages }}\r\n".encode())
    (directory / "additional_chat_templates").mkdir()
    (directory / "additional_chat_templates" / "tool_use.jinja").write_bytes(b"{{ tools }}\r\n")

    assert templates(read(directory)) == {
        "chat_template": "{{ messages }}\n",
        "chat_templates": ("tool_use",),
        "chat_template.tool_use": "{{ tools }}\n",
    }


def test_json_file_of_its_own_is_read(tmp_path: Path) -> None:
    directory = copied("llama3", tmp_path)
    (directory / "chat_template.json").write_text(json.dumps({"chat_template": "{{ messages }}"}), encoding="utf-8")

    assert templates(read(directory)) == {"chat_template": "{{ messages }}"}


def test_template_without_a_tokenizer_config_is_copied(tmp_path: Path) -> None:
    directory = copied("llama3", tmp_path, "tokenizer_config.json")
    (directory / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")

    assert templates(read(directory)) == {"chat_template": "{{ messages }}"}


def test_two_different_templates_are_warned_of(tmp_path: Path) -> None:
    directory = copied("llama3", tmp_path)
    declare(directory, "{{ messages }}")
    (directory / "chat_template.jinja").write_text("{{ other }}", encoding="utf-8")

    tokenizer = read(directory)

    assert templates(tokenizer) == {"chat_template": "{{ messages }}"}
    assert [warning for warning in tokenizer.warnings if "differs from the one in a file of its own" in warning]


@pytest.mark.parametrize("empty", ["", "  \n", [{"name": "default", "template": ""}]])
@pytest.mark.parametrize("file", ["chat_template.jinja", "chat_template.json"])
def test_an_empty_template_is_none_and_hides_no_file(tmp_path: Path, file: str, empty: Any) -> None:
    directory = copied("llama3", tmp_path)
    declare(directory, empty)
    assert templates(read(directory)) == {}
    own = "{{ own }}" if file.endswith("jinja") else json.dumps({"chat_template": "{{ own }}"})
    (directory / file).write_text(own, encoding="utf-8")
    assert templates(read(directory)) == {"chat_template": "{{ own }}"}
    assert not read(directory).warnings


def test_an_empty_file_is_no_template(tmp_path: Path) -> None:
    directory = copied("llama3", tmp_path)
    (directory / "chat_template.jinja").write_text("\n", encoding="utf-8")
    assert templates(read(directory)) == {}


def test_a_given_template_takes_the_place_of_all_others() -> None:
    own = {
        "a": string("b"),
        KEY: string("{{ 1 }}"),
        f"{KEY}.tool_use": string("{{ 2 }}"),
        f"{KEY}s": string("tool_use"),
    }
    assert with_chat_template(own, "{{ mine }}") == {"a": string("b"), KEY: string("{{ mine }}")}
    assert default_template({KEY: string(" ")}) is None


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "is empty"), (b"\xff", "UTF-8"), (None, "no such file|No such")]
)
def test_a_file_that_has_no_template_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "mine.jinja"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ToolkitError, match=message):
        read_chat_template(path)
