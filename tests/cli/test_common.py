import json
import math

from toolkit.cli.common import emit_json


def test_numbers_that_json_does_not_know_are_null(capsys):
    numbers = {"mean_nll": 1.5, "standard_error": math.nan, "perplexity_standard_error": -math.inf, "chunk_nlls": [1.5]}
    text = {"text": "t", "text_sha256": "0", "as_chat": False}
    counts = {"tokens": 2, "chunks": 1, "n_ctx_seq": 4, "stride": None}
    emit_json(
        "perplexity", {"model": "m", "perplexity": math.inf, "devices": [], "seconds": 1.0, **numbers, **text, **counts}
    )
    found = json.loads(capsys.readouterr().out, parse_constant=lambda word: f"{word} is no JSON")
    assert (found["perplexity"], found["standard_error"], found["perplexity_standard_error"]) == (None, None, None)
