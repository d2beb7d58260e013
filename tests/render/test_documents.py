"""The contract of the JSON documents: a schema for each, one name for each quantity, and nothing that no schema names."""

import json

import pytest
from jsonschema import Draft202012Validator

from toolkit.errors import InputError
from toolkit.render.documents import document_names, document_schema, whole_document


@pytest.mark.parametrize("name", document_names())
def test_a_schema_is_valid_and_complete_in_itself(name):
    schema = document_schema(name)
    Draft202012Validator.check_schema(schema)
    assert ".json#" not in json.dumps(schema)
    assert schema["$id"] == f"gguf-toolkit/{name}/2"
    assert {"schema", "toolkit_version", "llama_cpp_python_version"} <= set(schema["required"])
    assert all("description" in definition for definition in schema["$defs"].values())


def test_a_document_that_lacks_a_key_or_has_one_of_another_type_is_refused():
    good = whole_document("merge", {"output": "a", "parts": ["b"], "file_bytes": 3, "seconds": 0.1})
    check = Draft202012Validator(document_schema("merge"))
    assert check.is_valid(good)
    assert not check.is_valid({key: value for key, value in good.items() if key != "parts"})
    assert not check.is_valid(good | {"file_bytes": "3"})


def test_numbers_that_json_does_not_know_are_null():
    document = whole_document("x", {"a": float("nan"), "b": [float("inf"), 1.0], "c": {"d": (2, float("-inf"))}})
    assert (document["a"], document["b"], document["c"]) == (None, [None, 1.0], {"d": [2, None]})


def test_a_document_that_there_is_not_is_named_with_those_that_there_are():
    with pytest.raises(
        InputError, match="there is no document 'plans'; documents are architecture, architectures, bench, "
    ):
        document_schema("plans")
