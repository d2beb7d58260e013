"""llama.cpp, reading the vocabulary that we write, splits text as the original libraries do."""

from pathlib import Path

import pytest
import sentencepiece
import tokenizers
from tokenizer.kit_vocabularies import SOURCES, copied, edit, kit_request
from tokenizer.vocabulary_file import SAMPLE, llama_ids, loaded_vocabulary, write_vocabulary

from toolkit.tokenizer import read_tokenizer
from toolkit.tokenizer.pre_tokenizer_table import KNOWN_NAMES, NAMES

BYTE_LEVEL = (
    "llama3", "qwen2", "smollm", "mistral_nemo", "gpt_oss", "gpt2", "falcon", "bloom", "cohere", "starcoder2", "glm4",
    "qwen3_5", "seed_oss", "exaone_moe", "bailing_moe", "deepseek_v2", "deepseek_v3",
)  # fmt: skip
SENTENCEPIECE = ("llama2", "llama_linear", "gemma2", "phi3", "nemotron")


@pytest.mark.parametrize("case", BYTE_LEVEL)
def test_llama_cpp_splits_text_as_the_tokenizers_library_does(case: str, tmp_path: Path) -> None:
    file = write_vocabulary(tmp_path / "v.gguf", read_tokenizer(kit_request(case)).metadata)
    original = tokenizers.Tokenizer.from_file(str(SOURCES / case / "tokenizer.json"))

    assert llama_ids(file, SAMPLE) == original.encode(SAMPLE, add_special_tokens=False).ids


@pytest.mark.parametrize("case", SENTENCEPIECE)
def test_llama_cpp_splits_text_as_sentencepiece_does(case: str, tmp_path: Path) -> None:
    file = write_vocabulary(tmp_path / "v.gguf", read_tokenizer(kit_request(case)).metadata)
    original = sentencepiece.SentencePieceProcessor(model_file=str(SOURCES / case / "tokenizer.model"))

    assert llama_ids(file, SAMPLE) == original.encode(SAMPLE)


def test_special_and_added_tokens_are_found_inside_text(tmp_path: Path) -> None:
    directory = copied("qwen2", tmp_path)
    edit(
        directory / "tokenizer.json",
        lambda tokenizer: tokenizer["added_tokens"].append({"id": 390, "content": " spaced word", "special": False}),
    )
    file = write_vocabulary(tmp_path / "v.gguf", read_tokenizer(kit_request("qwen2", directory)).metadata)

    assert llama_ids(file, "<|im_start|><tool_call> spaced word<|im_end|>") == [387, 388, 390, 385]


@pytest.mark.parametrize("name", KNOWN_NAMES)
def test_llama_cpp_knows_every_name_that_pre_accepts(name: str, tmp_path: Path) -> None:
    metadata = read_tokenizer(kit_request("gpt2", pre=name)).metadata

    with loaded_vocabulary(write_vocabulary(tmp_path / "v.gguf", metadata)) as vocabulary:
        assert vocabulary


def test_every_name_in_the_table_is_one_that_llama_cpp_knows() -> None:
    table = {
        name
        for names in NAMES.values()
        for name in (names.default, names.composed, names.ignoring_merges, *names.by_model_type.values())
        if name
    }

    assert table <= set(KNOWN_NAMES)
