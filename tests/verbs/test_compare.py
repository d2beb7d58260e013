"""`toolkit.compare`, as a Python user calls it."""

import pytest

import toolkit
from toolkit.errors import InputError


@pytest.fixture
def short(license_text, monkeypatch, tmp_path):
    monkeypatch.setenv("GGUF_TOOLKIT_CACHE", str(tmp_path))
    return {"texts": [license_text], "n_ctx_seq": 64, "chunks": 2, "n_ctx": 128, "rates": False, "vram": 0}


def test_files_are_compared_with_the_unquantized_one_among_them(tiny, tiny_q8_0, short):
    comparison = toolkit.compare([tiny, tiny_q8_0], **short).comparison
    assert comparison.notes == ()
    rows = {row.name: row for row in comparison.rows}
    assert set(rows) == {"tiny-F16", "tiny-Q8_0"}
    assert rows["tiny-Q8_0"].file_bytes < rows["tiny-F16"].file_bytes
    assert [row.error for row in comparison.rows] == ["", ""]


def test_a_base_may_be_named_by_a_string(tiny, tiny_q8_0, short):
    result = toolkit.compare([tiny_q8_0], base=tiny, **short)
    assert [row.name for row in result.comparison.rows] == ["tiny-F16", "tiny-Q8_0"]
    assert result.exit_code == 0


def test_what_an_earlier_run_measured_is_taken_from_there(tiny, tiny_q8_0, short, heard):
    request = toolkit.CompareRequest([tiny, tiny_q8_0], **short)
    first, again = toolkit.compare(request), toolkit.compare(request, heard)
    assert [row.file_bytes for row in first.comparison.rows] == [row.file_bytes for row in again.comparison.rows]
    assert any("are from an earlier run" in message for message in heard.notes)


def test_requests_that_contradict_themselves_are_input_errors(tiny, short):
    with pytest.raises(InputError, match="'poetry' is not one of"):
        toolkit.compare([tiny], use="poetry", **short)
    with pytest.raises(InputError, match="for text of chat"):
        toolkit.compare([tiny], as_chat=True, **short)
