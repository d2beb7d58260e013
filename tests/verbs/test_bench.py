"""`toolkit.bench`, as a Python user calls it."""

import pytest

import toolkit
from toolkit.errors import GgufError, InputError


def test_every_length_is_measured_with_every_way_of_loading(tiny):
    result = toolkit.bench(tiny, n_prompt=[8, 4], n_generate=[2], n_depth=[0, 8], kv=["f16", "q8_0"], repetitions=1)
    tests = [
        (row.load.how.kv, row.settings.n_depth, row.settings.n_prompt, row.settings.n_generate) for row in result.rows
    ]
    assert tests == [
        (kv, depth, *lengths) for kv in ("f16", "q8_0") for depth in (0, 8) for lengths in ((8, 2), (4, 0))
    ]
    assert all(row.rate.prompt_tokens_per_second > 0 for row in result.rows)
    assert [row.rate.generation_tokens_per_second is None for row in result.rows] == [False, True] * 4


def test_nothing_to_measure_is_an_input_error(tiny):
    with pytest.raises(InputError, match="nothing to measure"):
        toolkit.bench(tiny, n_prompt=[], n_generate=[])


def test_what_is_not_a_gguf_file_is_refused(license_text):
    with pytest.raises(GgufError):
        toolkit.bench(license_text)
