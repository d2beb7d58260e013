"""Vocabularies as ranks: tiktoken files of Qwen 1 and Kimi, Mistral's tekken.json, and the merges that follow from them."""

from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizer.archive import archive_folder
from tokenizer.kit_vocabularies import SOURCES, TOKENS, TYPES
from tokenizer.rank_files import SPECIAL_V7, ranked_tokens, tekken_json, tiktoken_lines, write_json
from tokenizer.vocabulary_file import SAMPLE, llama_ids, write_vocabulary

from toolkit.errors import TokenizerError
from toolkit.gguf.reader import read_gguf
from toolkit.tokenizer import LLAMA_STYLES, Tokenizer, TokenizerRequest, read_tokenizer
from toolkit.tokenizer.byte_level_bpe import byte_of_letter
from toolkit.tokenizer.tiktoken import all_merges, last_merges

NORMAL = 1
N_MERGES = 20000
"""of the more than 150,000 that each has: enough to see a slip, in a second"""
TEMPLATE = "tokenizer.chat_template"


def read(directory: Path, *styles: str, n_rows: int = 700) -> Tokenizer:
    return read_tokenizer(TokenizerRequest(directory, {}, n_rows, styles))


@pytest.mark.parametrize(("name", "derive"), [("qwen2", last_merges), ("llama-bpe", all_merges)])
def test_merges_of_a_published_vocabulary_follow_from_its_ranks(
    name: str, derive: Any, pytestconfig: pytest.Config
) -> None:
    metadata = read_gguf(archive_folder(pytestconfig) / f"ggml-vocab-{name}.gguf").metadata
    alphabet = byte_of_letter()
    tokens = zip(metadata[TOKENS].value, metadata[TYPES].value, strict=True)
    ranks = {
        bytes(alphabet[letter] for letter in text): rank for rank, (text, kind) in enumerate(tokens) if kind == NORMAL
    }

    assert tuple(islice(derive(ranks), N_MERGES)) == metadata["tokenizer.ggml.merges"].value[:N_MERGES]


def write_qwen(directory: Path) -> None:
    (directory / "qwen.tiktoken").write_text(tiktoken_lines(ranked_tokens("qwen2")))


def write_kimi(directory: Path) -> None:
    (directory / "tiktoken.model").write_text(tiktoken_lines(ranked_tokens("deepseek_v3")))


def write_tekken(directory: Path, special: list[str] | None = None, version: str = "v3", **config: Any) -> None:
    content = tekken_json(ranked_tokens("mistral_nemo"), special, 24, version)
    content["config"] |= config
    write_json(directory / "tekken.json", content)


@pytest.mark.parametrize(
    ("write", "styles", "case"),
    [(write_qwen, ("qwen_tiktoken",), "qwen2"), (write_tekken, LLAMA_STYLES, "mistral_nemo")],
)
def test_llama_cpp_makes_the_same_tokens_of_text_as_with_tokenizer_json(
    write: Any, styles: tuple[str, ...], case: str, tmp_path: Path
) -> None:
    write(tmp_path)
    metadata = read(tmp_path, *styles).metadata
    ids = llama_ids(write_vocabulary(tmp_path / "v.gguf", metadata), SAMPLE)
    original = tokenizers.Tokenizer.from_file(str(SOURCES / case / "tokenizer.json"))

    assert [metadata[TOKENS].value[index] for index in ids] == original.encode(SAMPLE, add_special_tokens=False).tokens


def test_qwen_begins_and_ends_with_the_token_after_its_ranks(tmp_path: Path) -> None:
    write_qwen(tmp_path)
    metadata = read(tmp_path, "qwen_tiktoken").metadata
    roles = [metadata[f"tokenizer.ggml.{role}_token_id"].value for role in ("bos", "eos", "unknown")]
    assert [metadata[TOKENS].value[token] for token in roles] == ["<|endoftext|>"] * 3


def test_tokens_of_kimi_that_nobody_names_are_reserved(tmp_path: Path) -> None:
    write_kimi(tmp_path)
    named = {"388": {"content": "[BOS]", "special": True}, "389": {"content": "[EOS]", "special": True}}
    write_json(tmp_path / "tokenizer_config.json", {"added_tokens_decoder": named, "bos_token": "[BOS]"})

    tokenizer = read(tmp_path, "kimi_tiktoken", n_rows=650)
    assert tokenizer.metadata[TOKENS].value[388:391] == ("[BOS]", "[EOS]", "<|reserved_token_390|>")
    assert tokenizer.metadata[TOKENS].value[-5:] == (*(f"<|reserved_token_{i}|>" for i in (645,)), *fillers(646, 650))
    assert tokenizer.metadata["tokenizer.ggml.bos_token_id"].value == 388
    file = write_vocabulary(tmp_path / "v.gguf", tokenizer.metadata)
    assert llama_ids(file, "[BOS]the") == [388, *llama_ids(file, "the")]


def fillers(start: int, stop: int) -> list[str]:
    return [f"[PAD{index}]" for index in range(start, stop)]


def test_a_tokenizer_json_wins_over_tekken(tmp_path: Path) -> None:
    write_tekken(tmp_path)
    content = (SOURCES / "mistral_nemo" / "tokenizer.json").read_bytes()
    (tmp_path / "tokenizer.json").write_bytes(content)

    assert read(tmp_path, *LLAMA_STYLES).metadata[TOKENS].value[0] == "!"


def test_tekken_wins_over_a_sentencepiece_file(tmp_path: Path) -> None:
    write_tekken(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes((SOURCES / "llama2" / "tokenizer.model").read_bytes())

    assert read(tmp_path, *LLAMA_STYLES).model == "gpt2"


@pytest.mark.parametrize(
    ("version", "template"), [("v3", "mistral-v3-tekken"), ("v7", "mistral-v7-tekken"), ("v11", None)]
)
def test_the_version_implies_a_template_where_there_is_none(version: str, template: str | None, tmp_path: Path) -> None:
    write_tekken(tmp_path, SPECIAL_V7, version)
    tokenizer = read(tmp_path, *LLAMA_STYLES)

    found = tokenizer.metadata.get(TEMPLATE)
    assert (found and found.value) == template
    assert any("no chat template" in warning for warning in tokenizer.warnings) is (template is None)
    (tmp_path / "chat_template.jinja").write_text("{{ own }}")
    assert read(tmp_path, *LLAMA_STYLES).metadata[TEMPLATE].value == "{{ own }}"


def test_a_sentencepiece_file_of_mistrals_naming_is_found(tmp_path: Path) -> None:
    for version in ("v3", "v1"):
        (tmp_path / f"tokenizer.model.{version}").write_bytes(b"broken")
    (tmp_path / "tokenizer.model.v7").write_bytes((SOURCES / "llama2" / "tokenizer.model").read_bytes())

    tokenizer = read(tmp_path, *LLAMA_STYLES)
    assert (tokenizer.model, tokenizer.metadata[TEMPLATE].value) == ("llama", "mistral-v7")
    (tmp_path / "chat_template.jinja").write_text("{{ own }}")
    assert read(tmp_path, *LLAMA_STYLES).metadata[TEMPLATE].value == "{{ own }}"


def test_the_name_that_the_user_gives_decides(tmp_path: Path) -> None:
    write_tekken(tmp_path)
    request = TokenizerRequest(tmp_path, {}, 700, LLAMA_STYLES, "qwen2")

    assert read_tokenizer(request).metadata["tokenizer.ggml.pre"].value == "qwen2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("IQ== 0\nIQ", "line 2 is 'IQ', expected a token in base64 and its rank"),
        ("IQ== x\n", "line 1 is 'IQ== x', expected"),
        ("§ 0\n", "has the token '§', which is not base64"),
        ("IQ== 1\n", r"the ranks of its 1 tokens are not 0, 1, 2"),
        ("IQ== 0\n", "no token for the byte 0x00"),
        ("", "no token for the byte 0x00"),
    ],
)
def test_a_malformed_tiktoken_file_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "qwen.tiktoken").write_text(text, encoding="utf-8")

    with pytest.raises(TokenizerError, match=message):
        read(tmp_path, "qwen_tiktoken")


def test_more_ranks_than_rows_are_refused(tmp_path: Path) -> None:
    for write, style in ((write_qwen, "qwen_tiktoken"), (write_kimi, "kimi_tiktoken"), (write_tekken, "tekken")):
        write(tmp_path)
        with pytest.raises(TokenizerError, match="only 300 rows"):
            read(tmp_path, style, n_rows=300)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": None}, "has no config, expected an object"),
        ({"vocab": []}, "has 0 tokens, expected at least 387"),
        ({"vocab": None}, "has no list of tokens"),
        ({"vocab": [{"rank": 5}] * 400}, "token 0 is {'rank': 5}, expected an object with the rank 0"),
        ({"vocab": [{"rank": 0, "token_bytes": "§"}] * 400}, "token 0 has the token '§', which is not base64"),
        ({"special_tokens": ["<s>"]}, "special token '<s>', expected an object with rank and token_str"),
        ({"special_tokens": [{"rank": 99, "token_str": "a"}]}, "names the special token 99, but has 24 of them"),
    ],
)
def test_a_malformed_tekken_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    write_json(tmp_path / "tekken.json", tekken_json(ranked_tokens("mistral_nemo"), SPECIAL_V7, 24, "v7") | change)

    with pytest.raises(TokenizerError, match=message):
        read(tmp_path, "tekken")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"special_tokens": -1}, "special_tokens is -1, expected a list"),
        ({"config": {"default_num_special_tokens": 2**53}}, "of at most 1,048,576"),
        ({"config": {"default_num_special_tokens": 24, "default_vocab_size": 10**39}}, "of at most 1,048,576"),
    ],
)
def test_a_tekken_whose_numbers_would_take_all_memory_is_refused(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    write_json(tmp_path / "tekken.json", tekken_json(ranked_tokens("mistral_nemo"), SPECIAL_V7, 24, "v7") | change)
    with pytest.raises(TokenizerError, match=message):
        read(tmp_path, "tekken")


@pytest.mark.parametrize("key", ["default_vocab_size", "default_num_special_tokens"])
def test_a_tekken_without_its_sizes_is_refused(key: str, tmp_path: Path) -> None:
    write_tekken(tmp_path, **{key: "many"})

    with pytest.raises(TokenizerError, match=f"{key} is 'many', expected a positive whole number"):
        read(tmp_path, "tekken")


def test_a_new_tekken_must_name_its_special_tokens(tmp_path: Path) -> None:
    write_tekken(tmp_path, None, "v13")

    with pytest.raises(TokenizerError, match="version v13 names no special tokens"):
        read(tmp_path, "tekken")
