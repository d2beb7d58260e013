import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizer.kit_vocabularies import TOKENS, TYPES, copied, edit, kit_request
from tokenizer.vocabulary_file import SAMPLE, llama_ids, write_vocabulary

from toolkit.errors import TokenizerError
from toolkit.tokenizer import Tokenizer, read_tokenizer
from toolkit.tokenizer.vocabulary import TokenType

PRE, MERGES = "tokenizer.ggml.pre", "tokenizer.ggml.merges"


def read(case: str, directory: Path, n_rows: int = 400, **changes: Any) -> Tokenizer:
    return read_tokenizer(kit_request(case, directory, n_embedding_rows=n_rows, **changes))


def tokens_from(tokenizer: Tokenizer, start: int) -> list[tuple[str, int]]:
    texts, types = tokenizer.metadata[TOKENS].value, tokenizer.metadata[TYPES].value
    return list(zip(texts, types, strict=True))[start:]


def add(directory: Path, *tokens: dict[str, Any]) -> None:
    edit(directory / "tokenizer.json", lambda content: content["added_tokens"].extend(tokens))


def test_pre_tokenizer_is_known_whatever_tokens_are_added(tmp_path: Path) -> None:
    directory = copied("llama3", tmp_path)
    add(directory, *({"id": 390 + i, "content": f"<extra{i}>", "special": False} for i in range(5)))

    tokenizer = read("llama3", directory)

    assert tokenizer.metadata[PRE].value == "llama-bpe"
    assert tokens_from(tokenizer, 390)[:5] == [(f"<extra{i}>", TokenType.USER_DEFINED) for i in range(5)]


def test_rows_without_a_token_are_filled(tmp_path: Path) -> None:
    tokenizer = read("llama3", copied("llama3", tmp_path), 416)

    assert tokenizer.n_tokens == 416
    assert tokens_from(tokenizer, 390) == [(f"[PAD{i}]", TokenType.UNUSED) for i in range(390, 416)]


def test_vocabulary_larger_than_the_embedding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"token 384 .* only 384 rows"):
        read("llama3", copied("llama3", tmp_path), 384)


def test_added_tokens_without_a_row_are_left_out_with_a_warning(tmp_path: Path) -> None:
    tokenizer = read("llama3", copied("llama3", tmp_path), 388)

    assert tokenizer.n_tokens == 388
    assert [w for w in tokenizer.warnings if "2 added token(s) from 388 ('<|eom_id|>')" in w]


def test_added_tokens_become_control_by_mark_or_look(tmp_path: Path) -> None:
    directory = copied("qwen2", tmp_path)
    texts = ("<think>", " led", "<|x|>", "<｜tool▁sep｜>", "[@BOS@]", "▁word")  # noqa: RUF001
    add(directory, *({"id": 390 + i, "content": text, "special": False} for i, text in enumerate(texts)))

    assert tokens_from(read("qwen2", directory), 390)[:6] == [
        ("<think>", TokenType.USER_DEFINED),
        (" led", TokenType.USER_DEFINED),
        ("<|x|>", TokenType.CONTROL),
        ("<｜tool▁sep｜>", TokenType.CONTROL),  # noqa: RUF001
        ("[@BOS@]", TokenType.CONTROL),
        (" word", TokenType.USER_DEFINED),
    ]


def test_added_token_in_byte_level_spelling_is_written_as_text(tmp_path: Path) -> None:
    directory = copied("qwen2", tmp_path)
    add(
        directory,
        {"id": 390, "content": "Ġwide"},
        {"id": 391, "content": "é!"},
        {"id": 392, "content": "Ġlong", "normalized": True},
    )

    assert [text for text, _ in tokens_from(read("qwen2", directory), 390)[:3]] == [" wide", "é!", "Ġlong"]


def test_flags_of_the_tokenizer_config_win(tmp_path: Path) -> None:
    directory = copied("qwen2", tmp_path)
    edit(directory / "tokenizer_config.json", lambda c: c["added_tokens_decoder"]["388"].update(special=True))
    edit(directory / "tokenizer_config.json", lambda c: c["added_tokens_decoder"].update({"390": {"content": "<new>"}}))

    tokens = tokens_from(read("qwen2", directory), 388)

    assert tokens[0] == ("<tool_call>", TokenType.CONTROL)
    assert tokens[2] == ("<new>", TokenType.USER_DEFINED)


def test_token_that_is_only_named_as_special_is_control(tmp_path: Path) -> None:
    directory = copied("qwen2", tmp_path)
    piece = tokens_from(read("qwen2", directory), 0)[370][0]
    named = {"pad_token": piece, "additional_special_tokens": ["<|im_start|>", "<fresh>"]}
    edit(directory / "tokenizer_config.json", lambda content: content.update(named))

    tokens = tokens_from(read("qwen2", directory), 0)

    assert tokens[370] == (piece, TokenType.CONTROL)
    assert tokens[390] == ("<fresh>", TokenType.CONTROL)


def test_fields_that_do_not_concern_the_vocabulary_do_not_matter(tmp_path: Path) -> None:
    directory = copied("qwen2", tmp_path)
    expected = read("qwen2", directory).metadata
    (directory / "tokenization_custom.py").write_text("raise SystemExit('code of a model ran')", encoding="utf-8")
    odd = {
        "extra_special_tokens": ["<a>"],
        "tokenizer_class": "TokenizersBackend",
        "auto_map": {"AutoTokenizer": ["tokenization_custom.Custom", None]},
    }
    edit(directory / "tokenizer_config.json", lambda content: content.update(odd))

    assert read("qwen2", directory).metadata == expected


def test_merges_are_the_same_as_pairs_and_as_strings(tmp_path: Path) -> None:
    directory = copied("qwen2", tmp_path)
    pairs = read("qwen2", directory).metadata[MERGES]
    edit(directory / "tokenizer.json", lambda c: c["model"].update(merges=[" ".join(m) for m in c["model"]["merges"]]))

    assert read("qwen2", directory).metadata[MERGES] == pairs


def test_space_inside_a_merge_is_written_as_the_byte_level_space(tmp_path: Path) -> None:
    directory = copied("qwen2", tmp_path)
    edit(directory / "tokenizer.json", lambda content: content["model"]["merges"].append(["a b", "c"]))

    assert read("qwen2", directory).metadata[MERGES].value[-1] == "aĠb c"


@pytest.mark.parametrize("merges", [[], None])
def test_vocabulary_without_merges_is_refused(merges: list[str] | None, tmp_path: Path) -> None:
    directory = copied("qwen2", tmp_path)
    edit(directory / "tokenizer.json", lambda content: content["model"].update(merges=merges))

    with pytest.raises(TokenizerError, match="no merges"):
        read("qwen2", directory)


@pytest.mark.parametrize("merge", ["ab", ["a"], ["a", "b", "c"], 5])
def test_malformed_merge_is_named(merge: object, tmp_path: Path) -> None:
    directory = copied("qwen2", tmp_path)
    edit(directory / "tokenizer.json", lambda content: content["model"]["merges"].insert(3, merge))

    with pytest.raises(TokenizerError, match="merge 3 is"):
        read("qwen2", directory)


def test_two_texts_for_one_id_are_warned_of(tmp_path: Path) -> None:
    directory = copied("qwen2", tmp_path)
    add(directory, {"id": 380, "content": "<other>", "special": True})

    tokenizer = read("qwen2", directory)

    assert tokens_from(tokenizer, 380)[0] == ("<other>", TokenType.CONTROL)
    assert [w for w in tokenizer.warnings if "token 380 is" in w and "'<other>' among the added tokens" in w]


def test_model_of_another_kind_is_refused(tmp_path: Path) -> None:
    directory = copied("qwen2", tmp_path)
    edit(directory / "tokenizer.json", lambda content: content["model"].update(type="Unigram"))

    with pytest.raises(TokenizerError, match="holds a Unigram model, expected BPE"):
        read("qwen2", directory)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocab": {}}, "model.vocab is missing or empty"),
        ({"vocab": {"a": "0"}}, "gives 'a' the id '0'"),
        ({"vocab": {"a": -1}}, "gives 'a' the id -1"),
        ({"vocab": {"\ud800": 0}}, "not Unicode text"),
    ],
)
def test_malformed_vocabulary_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    directory = copied("qwen2", tmp_path)
    content = json.loads((directory / "tokenizer.json").read_text(encoding="utf-8"))
    content["model"] |= change
    (directory / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")

    with pytest.raises(TokenizerError, match=message):
        read("qwen2", directory)


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ({"id": 390}, "an entry without a text"),
        ({"content": "<x>"}, "'<x>' has the id None"),
        ("<x>", "added_tokens holds '<x>'"),
    ],
)
def test_malformed_added_token_is_named(token: Any, message: str, tmp_path: Path) -> None:
    directory = copied("qwen2", tmp_path)
    add(directory, token)

    with pytest.raises(TokenizerError, match=message):
        read("qwen2", directory)


def split_into_old_files(directory: Path, merges_tail: str = "") -> None:
    """Replace tokenizer.json by the vocab.json and merges.txt that it was made of, with CRLF line ends."""
    content = json.loads((directory / "tokenizer.json").read_text(encoding="utf-8"))
    (directory / "vocab.json").write_text(json.dumps(content["model"]["vocab"], ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in content["model"]["merges"])]
    (directory / "merges.txt").write_bytes(("\r\n".join(lines) + "\r\n" + merges_tail).encode("utf-8"))
    (directory / "tokenizer.json").unlink()


@pytest.mark.parametrize(("case", "tokenizer_class"), [("gpt2", "GPT2Tokenizer"), ("qwen2", "Qwen2TokenizerFast")])
def test_old_files_give_the_same_vocabulary_as_tokenizer_json(case: str, tokenizer_class: str, tmp_path: Path) -> None:
    directory = copied(case, tmp_path)
    edit(directory / "tokenizer_config.json", lambda content: content.update(tokenizer_class=tokenizer_class))
    expected = read(case, directory)
    original = tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json")).encode(SAMPLE).ids
    split_into_old_files(directory)

    tokenizer = read(case, directory)

    assert tokenizer == expected
    assert llama_ids(write_vocabulary(tmp_path / "v.gguf", tokenizer.metadata), SAMPLE) == original


def test_malformed_line_of_merges_is_named_and_left_out(tmp_path: Path) -> None:
    directory = copied("gpt2", tmp_path)
    expected = read("gpt2", directory)
    split_into_old_files(directory, merges_tail="one two three\r\n")

    tokenizer = read("gpt2", directory)

    assert tokenizer.metadata == expected.metadata
    assert tokenizer.warnings == (
        "merges.txt line 135 is malformed and left out: 'one two three', expected two pieces",
    )


def test_old_files_take_special_tokens_from_their_own_files(tmp_path: Path) -> None:
    directory = copied("gpt2", tmp_path)
    split_into_old_files(directory)
    (directory / "tokenizer_config.json").unlink()
    added = {"<|endoftext|>": 389, "<|sep|>": 391, "plain": 390}
    (directory / "added_tokens.json").write_text(json.dumps(added), encoding="utf-8")
    (directory / "special_tokens_map.json").write_text('{"sep_token": {"content": "<|sep|>"}}', encoding="utf-8")

    assert tokens_from(read("gpt2", directory), 389)[:3] == [
        ("<|endoftext|>", TokenType.CONTROL),
        ("plain", TokenType.USER_DEFINED),
        ("<|sep|>", TokenType.CONTROL),
    ]


def test_merges_file_without_merges_is_refused(tmp_path: Path) -> None:
    directory = copied("gpt2", tmp_path)
    split_into_old_files(directory)
    (directory / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")

    with pytest.raises(TokenizerError, match=r"merges\.txt holds no merges"):
        read("gpt2", directory)


def test_vocabulary_file_without_its_merges_file_is_refused(tmp_path: Path) -> None:
    directory = copied("gpt2", tmp_path)
    split_into_old_files(directory)
    (directory / "merges.txt").unlink()

    with pytest.raises(TokenizerError, match=r"vocab\.json but no merges\.txt"):
        read("gpt2", directory)
