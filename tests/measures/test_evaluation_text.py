import hashlib
from pathlib import Path
from pydoc_data.topics import topics

import pytest
from tiny_model import TinyShape, write_tiny_model

from toolkit.errors import TextError
from toolkit.gguf.format import Metadata, string
from toolkit.gguf.reader import read_gguf
from toolkit.llama.runtime import LlamaRuntime
from toolkit.measures.evaluation_text import TURNS, as_chat, conversations, named_text, read_text, tokens_of, with_hash
from toolkit.tokenizer.chat_template import KEY

BODY = "{% for m in messages %}[{{ m.role }}]{{ m.content }}</s>{% endfor %}"
WITH_BOS = "{{ bos_token }}" + BODY
TEXT = with_hash("text", "a sea\n\nan art\n \nthe war\n\n\nand then\n\nunanswered")


def test_the_default_text_is_the_last_fifth_of_pythons_topics() -> None:
    found, names = read_text(), sorted(topics)
    held_out = names[int(0.8 * len(names)) :]
    assert found.text == "\n\n".join(topics[name] for name in held_out)
    assert found.sha256 == hashlib.sha256(found.text.encode()).hexdigest()
    assert "pydoc_data.topics" in found.name


def test_a_file_is_read_as_utf_8_whatever_its_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "žluť.txt"
    file.write_bytes(b"\xef\xbb\xbf" + "kůň\r\n".encode())
    assert (read_text(file).text, read_text(file).name) == ("kůň\r\n", "žluť.txt")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b" \n\t ", "is empty"),
        (b"caf\xe9", r"is not UTF-8 text \(byte 3\)"),
        (b"GGUF\x03\x00\x00\x00", "is binary"),
        ("text".encode("utf-16"), "is not UTF-8"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    file = tmp_path / "text.txt"
    file.write_bytes(data)
    with pytest.raises(TextError, match=message):
        read_text(file)


def test_a_missing_file_and_a_directory_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TextError, match=r"none\.txt cannot be read \(No such file"):
        read_text(tmp_path / "none.txt")
    with pytest.raises(TextError, match="cannot be read"):
        read_text(tmp_path)


def test_demo_is_the_name_of_the_default_text_unless_a_file_is_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert named_text("demo") == read_text()
    (tmp_path / "demo").write_text("mine", encoding="utf-8")
    assert named_text("demo").text == "mine"


def metadata_with(path: Path, template: str | None) -> Metadata:
    metadata = dict(read_gguf(path).metadata)
    return metadata if template is None else metadata | {KEY: string(template)}


def test_paragraphs_are_turns_of_conversations_of_a_few_turns() -> None:
    found = list(conversations("\n\n".join(f"paragraph {index}" for index in range(2 * TURNS + 3))))
    assert [len(each.messages) for each in found] == [TURNS, TURNS, 2]
    assert [message["role"] for message in found[0].messages] == ["user", "assistant"] * (TURNS // 2)
    assert found[2].messages[0]["content"] == f"paragraph {2 * TURNS}"
    assert not found[0].add_generation_prompt


def test_a_text_is_written_by_the_models_own_template_and_has_another_hash(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "m.gguf")
    found = as_chat(TEXT, metadata_with(path, BODY), "m.gguf")
    assert found.text == "[user]a sea</s>[assistant]an art</s>[user]the war</s>[assistant]and then</s>"
    assert (found.name, found.is_chat) == ("text as chat", True)
    assert found.sha256 != TEXT.sha256


@pytest.mark.parametrize("template", [BODY, WITH_BOS])
@pytest.mark.parametrize("add_bos", [True, False])
def test_a_conversation_begins_with_one_bos_where_the_model_wants_it(
    tmp_path: Path, template: str, add_bos: bool
) -> None:
    path = write_tiny_model(tmp_path / "m.gguf", TinyShape(add_bos=add_bos))
    text = as_chat(TEXT, metadata_with(path, template), "m.gguf")
    with LlamaRuntime(path) as runtime:
        tokens = tokens_of(runtime, text)
        plain = tokens_of(runtime, with_hash("plain", "a</s>"))
    bos, end = 1, 2
    assert tokens.count(bos) == int(add_bos or template == WITH_BOS)
    assert (tokens[0] == bos) == (tokens.count(bos) == 1)
    assert tokens.count(end) == 4
    assert end not in plain


@pytest.mark.parametrize(
    ("template", "text", "message"),
    [
        (None, TEXT.text, r"m\.gguf has no chat template, so --as-chat"),
        (BODY, "one paragraph\nonly", r"text needs two paragraphs"),
        ("{{ raise_exception('no users') }}", TEXT.text, "does not take paragraphs as turns: no users"),
    ],
)
def test_what_cannot_be_a_conversation_is_refused(
    tmp_path: Path, template: str | None, text: str, message: str
) -> None:
    metadata = metadata_with(write_tiny_model(tmp_path / "m.gguf"), template)
    with pytest.raises(TextError, match=message):
        as_chat(with_hash("text", text), metadata, "m.gguf")
