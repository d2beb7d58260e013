import json

import pytest

from toolkit.errors import CheckpointError
from toolkit.json_files import MAX_BYTES, MAX_VOCABULARY_BYTES, read_json, read_json_object


def written(folder, text, name="config.json"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "Expecting property name"),
        ("[" * 100_000, "recursion"),
        ('{"a": ' + "1" * 41 + "}", "a number of 41 digits"),
        ('{"a": -' + "1" * 5000 + "}", "a number of 5001 digits"),
        ('{"a": "\\ud800"}', "half of a surrogate pair"),
        ('{"\\uDC80": 1}', "half of a surrogate pair"),
    ],
)
def test_what_is_no_json_to_other_readers_is_refused(text, reason, tmp_path):
    with pytest.raises(CheckpointError, match=rf"^config\.json is not valid JSON: .*{reason}"):
        read_json(written(tmp_path, text))


def test_surrogate_pairs_large_numbers_and_infinities_are_taken_as_python_takes_them(tmp_path):
    text = '{"a": "\\ud83d\\ude00", "b": 1000000000000000019884624838656, "c": Infinity, "d": "\\\\ud800"}'
    assert read_json_object(written(tmp_path, text)) == json.loads(text)


@pytest.mark.parametrize(("name", "limit"), [("config.json", MAX_BYTES), ("tokenizer.json", MAX_VOCABULARY_BYTES)])
def test_a_file_that_is_longer_than_any_of_its_kind_is_refused_before_it_is_parsed(name, limit, tmp_path):
    path = written(tmp_path, "{}", name)
    with path.open("r+b") as file:
        file.truncate(limit + 1)
    with pytest.raises(
        CheckpointError, match=rf"^{name} is longer than {limit >> 20}\.?0* MiB, which none of its kind"
    ):
        read_json(path)
    with path.open("r+b") as file:
        file.truncate(2)
    assert read_json(path) == {}
