"""The vocabularies of llama.cpp's own tests: rebuilt as tokenizer files, read, and split as llama.cpp must split them."""

import re
from pathlib import Path
from typing import Any

import pytest
from tokenizer.archive import archive_folder, read_pairs
from tokenizer.kit_vocabularies import TOKENS, TYPES
from tokenizer.rebuilt import CONTROL, PUBLISHED, UNKNOWN, UNUSED, USER_DEFINED, tokenizer_json, write_tokenizer
from tokenizer.vocabulary_file import ids_of_texts, write_vocabulary

from toolkit.architectures import find_architecture
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.errors import TokenizerError
from toolkit.gguf.format import Metadata
from toolkit.gguf.reader import read_gguf
from toolkit.tokenizer import TokenizerRequest, read_tokenizer
from toolkit.tokenizer.pre_tokenizer import choose_pre_tokenizer, name_by_hash
from toolkit.tokenizer.pre_tokenizer_table import GPT2
from toolkit.tokenizer.vocabulary import looks_special

FILLER = re.compile(r"\[PAD\d+\]")
MERGES, PRE, MODEL = (f"tokenizer.ggml.{name}" for name in ("merges", "pre", "model"))


def styles(name: str) -> tuple[str, ...]:
    """Return the styles of the family, or byte-level BPE where it is none that converts."""
    known = {"gpt_refact": ("bpe",)}
    model_type = PUBLISHED[name].model_type
    return known.get(model_type) or find_architecture(ModelConfig({"model_type": model_type}))[0].vocabularies


def types_today(original: Metadata) -> tuple[int, ...]:
    """Return the types of the tokens as llama.cpp's converter gives them now; the older files were made by earlier ones."""
    if original[MODEL].value == "gemma4":
        return original[TYPES].value
    rows = zip(original[TOKENS].value, original[TYPES].value, strict=True)
    return tuple(_type_today(text, kind) for text, kind in rows)


def _type_today(text: str, kind: int) -> int:
    if kind == UNKNOWN and FILLER.fullmatch(text):
        return UNUSED
    return CONTROL if kind == USER_DEFINED and looks_special(text) else kind


def test_every_pair_of_the_archive_is_tried(pytestconfig: pytest.Config) -> None:
    pairs = {file.name for file in archive_folder(pytestconfig).glob("*.inp")}

    assert pairs == {f"ggml-vocab-{name}.gguf.inp" for name in PUBLISHED}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_vocabulary_survives_the_way_through_its_tokenizer_files(
    name: str, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    file = archive_folder(pytestconfig) / f"ggml-vocab-{name}.gguf"
    original = read_gguf(file).metadata
    write_tokenizer(name, original, tmp_path)
    config = {"model_type": PUBLISHED[name].model_type}
    read = read_tokenizer(TokenizerRequest(tmp_path, config, len(original[TOKENS].value), styles(name))).metadata

    for key in (MODEL, PRE, TOKENS, MERGES):
        assert read.get(key) == original.get(key), key
    assert read[TYPES].value == types_today(original)
    pairs = read_pairs(file)
    assert len(pairs) >= 46
    assert ids_of_texts(write_vocabulary(tmp_path / "v.gguf", read), [text for text, _ in pairs]) == [
        ids for _, ids in pairs
    ]


def respelled(name: str, pytestconfig: pytest.Config) -> dict[str, Any]:
    """Return the tokenizer.json of a vocabulary whose words are split as before, by a regex that no table has."""
    file = archive_folder(pytestconfig) / f"ggml-vocab-{name}.gguf"
    content = tokenizer_json(name, read_gguf(file).metadata)
    regex = f"(?:{GPT2})"
    content["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
        ],
    }
    return content


def test_what_no_table_has_is_known_by_the_ids_of_the_check_text(pytestconfig: pytest.Config) -> None:
    assert choose_pre_tokenizer(respelled("gpt-2", pytestconfig), {}, None)[0] == "gpt-2"


def test_a_changed_vocabulary_that_no_table_has_is_refused(pytestconfig: pytest.Config) -> None:
    content = respelled("gpt-2", pytestconfig)
    del content["model"]["merges"][:10]

    with pytest.raises(TokenizerError, match="--pre NAME"):
        choose_pre_tokenizer(content, {}, None)


@pytest.mark.parametrize("name", ["falcon", "refact", "starcoder"])
def test_the_hash_of_a_published_vocabulary_is_the_one_that_llama_cpp_knows(
    name: str, pytestconfig: pytest.Config
) -> None:
    file = archive_folder(pytestconfig) / f"ggml-vocab-{name}.gguf"

    assert name_by_hash(tokenizer_json(name, read_gguf(file).metadata)) == name
