"""A model card says what a model is called and never whether it converts."""

import gguf
import pytest
import yaml
from editable_checkpoint import edit_case

from toolkit.sources.front_matter import MAX_CARD_BYTES, MAX_DEPTH
from toolkit.sources.model_card import ParameterCount, general_metadata

PLAIN = """---
license: apache-2.0
license_name: none
model_name: A Model
language:
- en
- de
tags: [chat, moe]
pipeline_tag: text-generation
base_model: org/Base-7B-Instruct
datasets:
- org/set-v1
- https://huggingface.co/org/other
model_description: |
  Two
  lines
model-index:
- name: x
  results: []
library_name: transformers
---
# Title
"""
RESULTS = "- task: {type: Classification}\n  value: 1.5\n" * 2000


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return edit_case("llama2", tmp_path_factory.mktemp("card")).save()


def general(directory, card):
    data = card if isinstance(card, bytes) else card.encode()
    (directory / "README.md").write_bytes(data)
    found = general_metadata(directory, "llama", ParameterCount(1000, 1000, 0, 0))
    return {key.removeprefix("general."): value.value for key, value in found.metadata.items()}, found.warnings


def without_card(directory):
    return general(directory, "")[0]


def of_reference(directory, card):
    """What the gguf library's own reading of a card comes to."""
    (directory / "README.md").write_text(card, encoding="utf-8")
    metadata = gguf.Metadata.load(None, directory, None, 1000)
    writer = gguf.GGUFWriter(None, "llama")
    metadata.size_label = metadata.size_label or gguf.size_label(1000, 1000, 0, 0)
    metadata.set_gguf_meta_model(writer)
    return {
        key.removeprefix("general."): tuple(value.value) if isinstance(value.value, list) else value.value
        for key, value in writer.kv_data[0].items()
        if key != "general.architecture"
    }


@pytest.mark.parametrize("card", [PLAIN, PLAIN.replace("\n", "\r\n"), PLAIN.replace("- en", "-\ten")])
def test_what_a_card_of_texts_says_is_what_the_gguf_library_reads_in_it(card, directory):
    found, warnings = general(directory, card)
    expected = of_reference(directory, card)
    assert {key: found[key] for key in expected} == expected
    assert set(found) - set(expected) <= {"architecture", "type"}
    assert warnings == ()


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ("language: no", "languages", ("no",)),
        ("language: [en, no]", "languages", ("en", "no")),
        ("tags: [1, 2.50, true, ~]", "tags", ("1", "2.50", "true")),
        ("model_name: 3.10", "name", "3.10"),
        ("version: 2024-02-30", "version", "2024-02-30"),
        ('license: !!timestamp "x"', "license", "x"),
        ('license: !!bool "x"', "license", "x"),
        ("license: !!python/object/apply:os.system [id]", "name", "Llama2"),
        ("license: &a mit\nmodel_name: *a", "name", "mit"),
        ("base_model:\n- name: Base\n  repo_url: https://base", "base_model.0.repo_url", "https://base"),
    ],
)
def test_a_scalar_is_the_text_that_stands_there(line, key, value, directory):
    found, _ = general(directory, f"---\n{line}\n---\n")
    expected = without_card(directory)["name"] if value == "Llama2" else value
    assert found[key] == expected


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("license: [[a]]", "license"),
        ("name: [a]", "name"),
        ("tags: {a: b}", "tags"),
        ("base_model: [[a]]\nlanguage: {a: b}", "base_model, language"),
        ("datasets: [{nane: x}]", "datasets"),
    ],
)
def test_an_entry_of_another_kind_is_left_out_by_name_and_the_others_stay(line, named, directory):
    found, warnings = general(directory, f"---\n{line}\nauthor: Me\n---\n")
    assert warnings == (f"README.md: left out {named}, which {'are' if ',' in named else 'is'} no text there",)
    assert found == without_card(directory) | {"author": "Me"}


@pytest.mark.parametrize(
    ("front", "reason"),
    [
        ("name: [unclosed", "line 3: expected ',' or ']'"),
        ("- a list", "no entries of the form"),
        ("a text", "no entries of the form"),
        ("a: " + "[" * 3000, "nested more than"),
        ("a: " + "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "nested more than"),
        ('name: "\\uD800"', "surrogates not allowed"),
        ('name: "\\UFFFFFFFF"', ""),
        ("a: \x01", "special characters are not allowed"),
        ("name: x\n" + "#" * MAX_CARD_BYTES, "does not end with ---"),
        ("a: !<unclosed", ""),
    ],
)
def test_a_card_that_cannot_be_read_is_left_out_with_one_line(front, reason, directory):
    found, warnings = general(directory, f"---\n{front}\n---\n")
    assert found == without_card(directory)
    (warning,) = warnings
    assert "\n" not in warning
    assert warning.startswith("README.md is left out, its front matter cannot be read: ")
    assert reason in warning


def test_bytes_that_are_no_text_are_left_out_in_the_front_matter_and_do_not_count_below_it(directory):
    assert general(directory, b"---\nname: \xff\n---\n")[1]
    found, warnings = general(directory, b"---\nauthor: Me\n---\n\xff")
    assert (found["author"], warnings) == ("Me", ())


def test_a_card_without_front_matter_is_no_reason_for_a_warning(directory):
    for card in ("", "# Title", "\n---\nname: x\n---\n"):
        assert general(directory, card) == (without_card(directory), ())


def test_the_results_that_embedders_list_are_read_past(directory):
    card = f"---\nmodel-index:\n{RESULTS}author: Me\n---\n"
    assert yaml.safe_load(card.replace("---\n", ""))["author"] == "Me"
    assert general(directory, card)[0]["author"] == "Me"
