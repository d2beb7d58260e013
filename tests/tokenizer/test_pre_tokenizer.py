import json
from collections.abc import Callable
from typing import Any

import pytest
from tokenizer.kit_vocabularies import SOURCES

from toolkit.errors import TokenizerError
from toolkit.tokenizer.pre_tokenizer import choose_pre_tokenizer, split_steps
from toolkit.tokenizer.pre_tokenizer_table import CL100K, GPT2

BYTE_LEVEL_CASES = (
    "llama3", "qwen2", "smollm", "mistral_nemo", "gpt_oss", "gpt2", "falcon", "bloom", "cohere", "starcoder2", "glm4",
    "qwen3_5", "seed_oss", "exaone_moe", "bailing_moe", "deepseek_v2", "deepseek_v3",
)  # fmt: skip
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}


def tokenizer_json(case: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((SOURCES / case / "tokenizer.json").read_text(encoding="utf-8"))
    return content


def split(regex: str, **changes: Any) -> dict[str, Any]:
    step = {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False} | changes
    return {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [step, BYTE_LEVEL]}}


def name(content: dict[str, Any], model_type: str | None = None) -> str:
    return choose_pre_tokenizer(content, {"model_type": model_type}, None)[0]


@pytest.mark.parametrize(
    ("model_type", "expected"),
    [
        ("llama", "llama-bpe"),
        ("mistral", "llama-bpe"),
        ("smollm3", "llama-bpe"),
        ("glm4_moe", "glm4"),
        ("dbrx", "dbrx"),
        ("phi3", "dbrx"),
        ("falcon_h1", "falcon-h1"),
        (None, "dbrx"),
    ],
)
def test_model_decides_between_names_of_one_regex(model_type: str | None, expected: str) -> None:
    assert name(split(CL100K), model_type) == expected


def test_merges_that_whole_words_skip_tell_llama_3_from_others() -> None:
    assert name(split(CL100K) | {"model": {"ignore_merges": True}}) == "llama-bpe"


def test_digits_alone_are_smollm_in_llamas_clothes() -> None:
    assert name(tokenizer_json("smollm"), "llama") == "smollm"
    assert name(tokenizer_json("smollm"), "starcoder2") == "starcoder"


def test_removing_what_lies_between_matches_is_isolating_them() -> None:
    assert name(split(CL100K, behavior="Removed", invert=True), "llama") == "llama-bpe"


def test_regex_of_the_byte_level_step_may_be_spelled_out() -> None:
    assert split_steps({"type": "ByteLevel", "use_regex": True}) == split_steps(split(GPT2)["pre_tokenizer"])


def test_changed_regex_is_refused_with_the_regex_and_a_way_out() -> None:
    changed = GPT2.replace(r" ?\p{N}+", r"\p{N}{1,2}")

    with pytest.raises(TokenizerError) as refused:
        name(split(changed), "gpt2")
    assert json.dumps(changed) in str(refused.value)
    assert "--pre NAME" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "pre_tokenizer",
    [None, {"type": "Whitespace"}, {"type": "Metaspace", "replacement": "▁"}, {"type": "Sequence"}, "text", {}],
)
def test_other_ways_of_splitting_are_refused(pre_tokenizer: Any) -> None:
    with pytest.raises(TokenizerError, match="--pre NAME"):
        name({"pre_tokenizer": pre_tokenizer}, "llama")


def test_name_that_the_user_gives_decides() -> None:
    assert choose_pre_tokenizer(split("odd"), {"model_type": "llama"}, "tekken") == ("tekken", ())


def test_unknown_name_of_the_user_is_refused_with_the_nearest() -> None:
    with pytest.raises(
        TokenizerError, match=r"--pre lama-bpe is not a pre-tokenizer of llama\.cpp; nearest: llama-bpe"
    ):
        choose_pre_tokenizer(split(CL100K), {}, "lama-bpe")


def test_space_before_every_text_is_warned_of() -> None:
    prefixed = {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True}}

    assert "add_prefix_space" in choose_pre_tokenizer(prefixed, {}, None)[1][0]


def add_token(content: dict[str, Any]) -> None:
    content["added_tokens"].append({"id": 9999, "content": "<|new|>", "special": True, "normalized": False})


def resize(content: dict[str, Any]) -> None:
    ids = content["model"]["vocab"]
    ids |= {f"new{index}": 10000 + index for index in range(64)}


def change_merge(content: dict[str, Any]) -> None:
    del content["model"]["merges"][:1]


@pytest.mark.parametrize("change", [add_token, resize, change_merge])
@pytest.mark.parametrize("case", BYTE_LEVEL_CASES)
def test_a_changed_vocabulary_is_recognised_as_before(case: str, change: Callable[[dict[str, Any]], None]) -> None:
    config = json.loads((SOURCES / case / "config.json").read_text(encoding="utf-8"))
    content = tokenizer_json(case)
    before = choose_pre_tokenizer(content, config, None)
    change(content)

    assert choose_pre_tokenizer(content, config, None) == before
