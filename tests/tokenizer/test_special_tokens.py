import json
from pathlib import Path
from typing import Any

import pytest
from tokenizer.kit_vocabularies import TOKENS, copied, edit, kit_request
from tokenizer.vocabulary_file import loaded_vocabulary, write_vocabulary

from toolkit.llama import native
from toolkit.tokenizer import LLAMA_STYLES, Tokenizer, TokenizerRequest, read_tokenizer
from toolkit.tokenizer.special_tokens import END_TEXTS, Roles, apply_post_processor, listed_ids


def read(case: str, directory: Path, **config: Any) -> Tokenizer:
    request = kit_request(case, directory)
    return read_tokenizer(kit_request(case, directory, config=dict(request.config) | config))


def value(tokenizer: Tokenizer, key: str) -> Any:
    entry = tokenizer.metadata.get(f"tokenizer.ggml.{key}")
    return None if entry is None else entry.value


def configure(directory: Path, **changes: Any) -> None:
    edit(directory / "tokenizer_config.json", lambda content: content.update(changes))


def generation(directory: Path, **content: Any) -> None:
    (directory / "generation_config.json").write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize("listed", [386, [386, 385]])
def test_eos_of_the_tokenizer_config_beats_that_of_config(listed: Any, tmp_path: Path) -> None:
    directory = copied("qwen2", tmp_path)
    generation(directory, eos_token_id=[385, 386])

    tokenizer = read("qwen2", directory, eos_token_id=listed)

    # 386 is <|endoftext|>, at which llama.cpp stops by itself.
    assert (value(tokenizer, "eos_token_id"), tokenizer.warnings) == (385, ())


def test_ends_that_llama_cpp_would_miss_are_named_in_one_warning(tmp_path: Path) -> None:
    directory = copied("qwen2", tmp_path)
    generation(directory, eos_token_id=[385, 388])

    tokenizer = read("qwen2", directory, eos_token_id=[389, 385])

    assert tokenizer.warnings == (
        "eos_token_id is 385; llama.cpp will not stop at the other end tokens that are named: "
        "389 ('</tool_call>'), 388 ('<tool_call>')",
    )


def test_first_of_a_list_is_used_without_another_source(tmp_path: Path) -> None:
    directory = copied("qwen2", tmp_path)
    configure(directory, eos_token=None)

    tokenizer = read("qwen2", directory, eos_token_id=[387, 385])

    assert value(tokenizer, "eos_token_id") == 387


def test_generation_config_is_the_last_source(tmp_path: Path) -> None:
    directory = copied("qwen2", tmp_path)
    configure(directory, eos_token=None)
    generation(directory, eos_token_id=[388])

    assert value(read("qwen2", directory, eos_token_id=None), "eos_token_id") == 388


def test_eos_of_a_sentencepiece_vocabulary_is_found_among_its_declared_tokens(tmp_path: Path) -> None:
    directory = copied("llama_linear", tmp_path)
    configure(directory, eos_token="<|end|>")

    assert value(read("llama_linear", directory, eos_token_id=2), "eos_token_id") == 399


def test_bos_and_eos_that_only_the_pieces_know_are_found_there(tmp_path: Path) -> None:
    directory = copied("llama_f32", tmp_path)
    configure(directory, added_tokens_decoder={})

    tokenizer = read("llama_f32", directory, bos_token_id=None, eos_token_id=None)

    assert (value(tokenizer, "bos_token_id"), value(tokenizer, "eos_token_id")) == (1, 2)


@pytest.mark.parametrize(("index", "said"), [(-1, "the id -1"), (5000, "the id 5000, but there are 400 tokens")])
def test_id_outside_the_vocabulary_is_ignored_with_a_warning(index: int, said: str, tmp_path: Path) -> None:
    directory = copied("qwen2", tmp_path)
    configure(directory, pad_token=None)

    tokenizer = read("qwen2", directory, pad_token_id=index)

    assert value(tokenizer, "padding_token_id") is None
    assert [w for w in tokenizer.warnings if "config.json gives pad" in w and said in w]


def test_flag_of_the_tokenizer_config_is_written_as_found(tmp_path: Path) -> None:
    directory = copied("llama_f32", tmp_path)
    configure(directory, add_bos_token=False, add_eos_token=True)

    tokenizer = read("llama_f32", directory)

    assert (value(tokenizer, "add_bos_token"), value(tokenizer, "add_eos_token")) == (False, True)
    assert tokenizer.warnings == ()


def test_post_processor_beats_the_tokenizer_config_with_a_warning(tmp_path: Path) -> None:
    directory = copied("llama3", tmp_path)
    configure(directory, add_bos_token=False)

    tokenizer = read("llama3", directory)

    assert value(tokenizer, "add_bos_token") is True
    assert [w for w in tokenizer.warnings if "says add_bos_token false" in w and "post-processor is followed" in w]


def test_role_given_as_an_object_is_the_same_as_its_text(tmp_path: Path) -> None:
    directory = copied("llama2", tmp_path)
    expected = read("llama2", directory)
    configure(directory, bos_token={"__type": "AddedToken", "content": "<s>", "normalized": False})

    assert read("llama2", directory) == expected


def test_without_a_bos_token_there_is_no_key_and_llama_cpp_prepends_none(tmp_path: Path) -> None:
    directory = copied("qwen2", tmp_path)
    configure(directory, bos_token=None)

    tokenizer = read("qwen2", directory, bos_token_id=None)

    assert value(tokenizer, "bos_token_id") is None
    with loaded_vocabulary(write_vocabulary(tmp_path / "v.gguf", tokenizer.metadata)) as vocabulary:
        assert not native.llama_cpp().llama_vocab_get_add_bos(vocabulary)


def test_template_that_ends_with_another_token_makes_the_eos_an_end_of_turn(tmp_path: Path) -> None:
    directory = copied("llama3", tmp_path)
    end = {"SpecialToken": {"id": "<|eot_id|>", "type_id": 0}}
    edit(directory / "tokenizer.json", lambda c: c["post_processor"]["processors"][1]["single"].append(end))

    tokenizer = read("llama3", directory)

    assert (value(tokenizer, "eos_token_id"), value(tokenizer, "eot_token_id")) == (387, 386)
    assert value(tokenizer, "add_eos_token") is True


def test_template_that_begins_with_an_unknown_token_adds_no_bos(tmp_path: Path) -> None:
    directory = copied("llama3", tmp_path)
    configure(directory, bos_token="<|python_tag|>", cls_token="<|eom_id|>")

    tokenizer = read("llama3", directory)

    assert value(tokenizer, "add_bos_token") is False
    assert [w for w in tokenizer.warnings if "puts '<|begin_of_text|>' before every text" in w]


def test_separator_between_two_texts_is_found(tmp_path: Path) -> None:
    directory = copied("llama3", tmp_path)
    middle = {"SpecialToken": {"id": "<|end_of_text|>", "type_id": 0}}
    edit(directory / "tokenizer.json", lambda c: c["post_processor"]["processors"][1]["pair"].insert(2, middle))

    tokenizer = read("llama3", directory)

    assert value(tokenizer, "add_sep_token") is True
    assert value(tokenizer, "seperator_token_id") == 386


def test_roberta_post_processor_adds_all_three(tmp_path: Path) -> None:
    directory = copied("gpt2", tmp_path)
    roberta = {"type": "RobertaProcessing", "sep": ["<|endoftext|>", 389], "cls": ["<|endoftext|>", 389]}
    edit(directory / "tokenizer.json", lambda content: content.update(post_processor=roberta))

    tokenizer = read("gpt2", directory)

    assert [value(tokenizer, f"add_{role}_token") for role in ("bos", "eos", "sep")] == [True, True, True]
    assert value(tokenizer, "seperator_token_id") == 389


@pytest.mark.parametrize(
    ("normalizer", "lowercase", "strip_accents"),
    [
        ({"type": "Lowercase"}, True, None),
        ({"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "StripAccents"}]}, None, True),
        ({"type": "BertNormalizer", "lowercase": False, "strip_accents": None}, False, None),
    ],
)
def test_normalizer_flags_are_written(
    normalizer: dict[str, Any], lowercase: bool | None, strip_accents: bool | None, tmp_path: Path
) -> None:
    directory = copied("gpt2", tmp_path)
    edit(directory / "tokenizer.json", lambda content: content.update(normalizer=normalizer))

    tokenizer = read("gpt2", directory)

    assert value(tokenizer, "normalizer.lowercase") is lowercase
    assert value(tokenizer, "normalizer.strip_accents") is strip_accents


@pytest.mark.parametrize("prefix", [True, False])
def test_llama_family_writes_the_space_prefix_of_its_tokenizer_config(prefix: bool, tmp_path: Path) -> None:
    directory = copied("llama2", tmp_path)
    configure(directory, add_prefix_space=prefix)

    assert value(read("llama2", directory), "add_space_prefix") is prefix


def test_code_llama_gets_its_end_of_infilling(tmp_path: Path) -> None:
    config = {"model_type": "llama", "vocab_size": 32016}

    tokenizer = read_tokenizer(TokenizerRequest(copied("llama2", tmp_path), config, 32016))

    assert value(tokenizer, "eot_token_id") == 32010


def test_granites_vocabulary_adds_no_bos(tmp_path: Path) -> None:
    config = {"model_type": "llama", "vocab_size": 49152}

    tokenizer = read_tokenizer(TokenizerRequest(copied("llama3", tmp_path), config, 49152, LLAMA_STYLES))

    assert value(tokenizer, "add_bos_token") is False


def with_added(directory: Path, *texts: str) -> Tokenizer:
    """Return the vocabulary of Qwen 2 with these tokens from id 390 on."""
    tokens = [{"id": 390 + index, "content": text, "special": True} for index, text in enumerate(texts)]
    edit(directory / "tokenizer.json", lambda content: content["added_tokens"].extend(tokens))
    return read_tokenizer(kit_request("qwen2", directory, n_embedding_rows=400))


@pytest.mark.parametrize(
    "texts",
    [
        ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"),
        ("<fim-prefix>", "<fim-suffix>", "<fim-middle>", "<fim-pad>", "<fim-repo>"),
        ("<\uff5cfim\u2581begin\uff5c>", "<\uff5cfim\u2581hole\uff5c>", "<\uff5cfim\u2581end\uff5c>"),
    ],
)
def test_llama_cpp_finds_the_tokens_for_infilling_by_their_texts(texts: tuple[str, ...], tmp_path: Path) -> None:
    tokenizer = with_added(copied("qwen2", tmp_path), *texts)
    llama = native.llama_cpp()
    found = [llama.llama_vocab_fim_pre, llama.llama_vocab_fim_suf, llama.llama_vocab_fim_mid, llama.llama_vocab_fim_pad]
    found += [llama.llama_vocab_fim_rep, llama.llama_vocab_fim_sep]

    with loaded_vocabulary(write_vocabulary(tmp_path / "v.gguf", tokenizer.metadata)) as vocabulary:
        assert [find(vocabulary) for find in found[: len(texts)]] == [390 + index for index in range(len(texts))]


@pytest.mark.parametrize("text", ["<|eot_id|>", "<end_of_turn>", "<EOT>", "[EOT]", "<|end|>"])
def test_llama_cpp_finds_the_end_of_turn_by_its_text(text: str, tmp_path: Path) -> None:
    directory = copied("qwen3", tmp_path)
    for renamed in ("<|im_end|>", "<|endoftext|>"):
        replace_text(directory, renamed, f"<|other_{renamed[2:]}")
    tokenizer = with_added(directory, text)

    with loaded_vocabulary(write_vocabulary(tmp_path / "v.gguf", tokenizer.metadata)) as vocabulary:
        assert native.llama_cpp().llama_vocab_eot(vocabulary) == 390


def replace_text(directory: Path, old: str, new: str) -> None:
    for file in directory.glob("*.json"):
        file.write_text(file.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")


@pytest.mark.parametrize("text", sorted(END_TEXTS))
def test_llama_cpp_stops_at_the_texts_that_are_taken_for_ends(text: str, tmp_path: Path) -> None:
    tokenizer = with_added(copied("qwen2", tmp_path), text)
    index = tokenizer.metadata[TOKENS].value.index(text)

    with loaded_vocabulary(write_vocabulary(tmp_path / "v.gguf", tokenizer.metadata)) as vocabulary:
        assert native.llama_cpp().llama_vocab_is_eog(vocabulary, index)
        assert not native.llama_cpp().llama_vocab_is_eog(vocabulary, 388)


def test_code_llamas_tokens_for_infilling_are_found(tmp_path: Path) -> None:
    directory = copied("llama_linear", tmp_path)
    pieces = {str(395 + i): {"content": text, "special": True} for i, text in enumerate(("▁<PRE>", "▁<SUF>", "▁<MID>"))}
    configure(directory, added_tokens_decoder=pieces)
    tokenizer = read("llama_linear", directory)

    llama = native.llama_cpp()
    with loaded_vocabulary(write_vocabulary(tmp_path / "v.gguf", tokenizer.metadata)) as vocabulary:
        found = [llama.llama_vocab_fim_pre, llama.llama_vocab_fim_suf, llama.llama_vocab_fim_mid]
        assert [find(vocabulary) for find in found] == [395, 396, 397]


def template(*parts: str) -> dict[str, Any]:
    single = [{"Sequence": {"id": part}} if part in "AB" else {"SpecialToken": {"id": part}} for part in parts]
    return {"type": "TemplateProcessing", "single": single, "pair": []}


def test_the_class_token_begins_a_text_where_nothing_else_is_named() -> None:
    roles = Roles({"cls": "[CLS]", "sep": "[SEP]"}, declared=True)
    apply_post_processor(roles, template("[CLS]", "A", "[SEP]"))
    assert (roles.texts["bos"], roles.texts["eos"]) == ("[CLS]", "[SEP]")
    assert roles.adds == {"bos": True, "eos": True}


def test_a_byte_level_step_after_a_template_does_not_undo_it() -> None:
    roles = Roles({"bos": "<s>"}, declared=True)
    apply_post_processor(roles, {"type": "Sequence", "processors": [template("<s>", "A"), {"type": "ByteLevel"}]})
    assert roles.adds == {"bos": True, "eos": False}


def test_an_id_is_a_number_and_no_flag() -> None:
    assert listed_ids([True, 3, "4", 5]) == [3, 5]
    assert listed_ids(False) == []
