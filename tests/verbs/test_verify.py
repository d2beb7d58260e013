"""`toolkit.verify`, as a Python user calls it."""

from pathlib import Path

import pytest

import toolkit
from toolkit.errors import GgufError


def test_a_file_is_what_it_was_made_of(tiny, tiny_q8_0):
    result = toolkit.verify(tiny_q8_0, source=tiny, run=False)
    assert (result.gguf, result.source, result.failed) == (Path(tiny_q8_0), tiny, ())
    assert "PASS" in {check.outcome for check in result.checks}


def test_checks_of_a_file_that_is_another_model_fail_without_an_error(tiny, converted):
    result = toolkit.verify(tiny, source=str(converted("llama3", "bf16")), run=False)
    assert {check.name for check in result.failed} >= {"tensors"}


def test_what_is_not_a_gguf_file_is_refused(tiny, license_text):
    with pytest.raises(GgufError):
        toolkit.verify(license_text, source=tiny)
