import json
import math

from toolkit.cli.common import emit_json


def test_numbers_that_json_does_not_know_are_null(capsys):
    emit_json("any", {"a": math.nan, "b": [math.inf, 1.5], "c": {"d": (-math.inf, 2)}})
    found = json.loads(capsys.readouterr().out, parse_constant=lambda word: f"{word} is no JSON")
    assert (found["a"], found["b"], found["c"]) == (None, [None, 1.5], {"d": [None, 2]})
