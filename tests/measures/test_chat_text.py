from pathlib import Path

import pytest
from tiny_model import TinyShape, write_tiny_model

from toolkit.errors import TextError
from toolkit.gguf.format import Metadata, string
from toolkit.gguf.reader import read_gguf
from toolkit.llama.runtime import LlamaRuntime
from toolkit.measures.chat_text import TURNS, as_chat, conversations
from toolkit.measures.evaluation_text import tokens_of, with_hash
from toolkit.tokenizer.chat_template import KEY

BODY = "{% for m in messages %}[{{ m.role }}]{{ m.content }}</s>{% endfor %}"
WITH_BOS = "{{ bos_token }}" + BODY
TEXT = with_hash("text", "a sea\n\nan art\n \nthe war\n\n\nand then\n\nunanswered")


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
        (BODY, "one paragraph\nonly", r"text has no two paragraphs"),
        ("{{ raise_exception('no users') }}", TEXT.text, "does not take paragraphs as turns: no users"),
    ],
)
def test_what_cannot_be_a_conversation_is_refused(
    tmp_path: Path, template: str | None, text: str, message: str
) -> None:
    metadata = metadata_with(write_tiny_model(tmp_path / "m.gguf"), template)
    with pytest.raises(TextError, match=message):
        as_chat(with_hash("text", text), metadata, "m.gguf")
