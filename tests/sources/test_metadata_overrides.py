"""What the user says of a model counts more than what its files say, under the keys that llama.cpp's converter writes."""

import json

import pytest
from editable_checkpoint import edit_case

from toolkit.errors import InputError
from toolkit.sources.hf_source import source_from_checkpoint
from toolkit.sources.metadata_overrides import parse_overrides

CARD = """---
license: apache-2.0
author: Somebody
base_model: org/Base-7B
tags:
- found
---
"""


@pytest.fixture
def directory(tmp_path):
    checkpoint = edit_case("llama2", tmp_path)
    (checkpoint.directory / "README.md").write_text(CARD, encoding="utf-8")
    return checkpoint.directory


def general(directory, *texts, name=None):
    source = source_from_checkpoint(directory, overrides=parse_overrides(texts, name))
    return {key.removeprefix("general."): value.value for key, value in source.metadata.items()}


def test_pairs_replace_what_the_model_card_says_and_leave_the_rest(directory):
    found = general(directory)
    assert (found["license"], found["author"], found["base_model.0.name"]) == ("apache-2.0", "Somebody", "Base 7B")
    said = general(directory, "author=Me = I", "general.license=mit", "base_model=other/Model-1B,more/Two", "tags=a, b")
    assert (said["author"], said["license"], said["tags"]) == ("Me = I", "mit", ("a", "b"))
    assert (said["base_model.count"], said["base_model.0.organization"], said["base_model.1.name"]) == (
        2,
        "Other",
        "Two",
    )
    changed = {"author", "license", "tags"} | {key for key in said if key.startswith("base_model")}
    assert {key: said[key] for key in said.keys() - changed} == {key: found[key] for key in found.keys() - changed}


def test_a_file_says_what_llama_cpps_converter_reads_in_it(directory, tmp_path):
    file = tmp_path / "over.json"
    file.write_text(
        json.dumps(
            {
                "general.license.name": "free",
                "general.source.url": "https://source",
                "general.sampling.temp": 0.5,
                "general.languages": ["de"],
                "general.base_models": [{"name": "Base", "repo_url": "https://base"}],
                "general.datasets": [{"name": "Set"}],
            }
        ),
        encoding="utf-8",
    )
    said = general(directory, str(file), name="My Name")
    assert said["name"] == "My Name"
    assert (said["license.name"], said["source.url"], said["languages"]) == ("free", "https://source", ("de",))
    assert (said["base_model.0.name"], said["base_model.0.repo_url"]) == ("Base", "https://base")
    assert (said["dataset.count"], said["dataset.0.name"], said["sampling.temp"]) == (1, "Set", 0.5)


@pytest.mark.parametrize("key", ["architecture", "autor", "file_type"])
def test_unknown_keys_are_refused(key):
    with pytest.raises(InputError, match=f"{key} is not one of name, author, "):
        parse_overrides([f"general.{key}=x"])


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"general.author": 1}, "general.author is '1', expected a text"),
        ({"general.tags": "a"}, "general.tags is 'a', expected a list of texts"),
        ({"general.base_models": [{"nane": "x"}]}, "expected a list of objects of texts"),
        ({"general.sampling.top_k": 1.5}, "general.sampling.top_k is '1.5', expected a value of type int"),
        ({"general.autor": "x"}, "general.autor is not one of "),
    ],
)
def test_a_file_with_values_of_another_kind_is_refused(document, message, tmp_path):
    file = tmp_path / "over.json"
    file.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(InputError, match=f"^over.json: .*{message}"):
        parse_overrides([str(file)])


def test_what_is_neither_a_pair_nor_a_file_is_refused():
    with pytest.raises(InputError, match="'author' is neither KEY=VALUE nor a JSON file"):
        parse_overrides(["author"])


def test_a_list_of_objects_under_another_key_is_refused(tmp_path):
    file = tmp_path / "m.json"
    file.write_text(json.dumps({"general.nonsense": [{"name": "x"}]}), encoding="utf-8")
    with pytest.raises(InputError, match=r"general\.nonsense is not one of name"):
        parse_overrides([str(file)])
