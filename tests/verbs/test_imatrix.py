"""`toolkit.imatrix`, as a Python user calls it."""

import pytest

import toolkit
from toolkit.errors import InputError


def test_a_matrix_is_collected_and_written(tiny, license_text, tmp_path):
    result = toolkit.imatrix(tiny, str(tmp_path / "i.gguf"), text=license_text, n_ctx_seq=64, chunks=2)
    assert (result.output, result.chunks, result.moments) == (tmp_path / "i.gguf", 2, None)
    assert result.output.stat().st_size > 0
    assert result.sums is not None
    # Seven matrices in each of two blocks; output.weight only where it is asked for.
    assert len(result.sums.entries) == 14


def test_second_moments_are_collected_instead(tiny, license_text, tmp_path):
    result = toolkit.imatrix(
        tiny, tmp_path / "m.gguf", text=license_text, n_ctx_seq=32, chunks=5, moments=True, moments_memory="64MiB"
    )
    assert (result.sums, result.chunks) == (None, 5)
    assert result.moments is not None
    assert result.output.stat().st_size > 0


def test_a_file_that_exists_is_not_replaced_unasked(tiny, license_text, tmp_path):
    (tmp_path / "kept").write_text("mine", "utf-8")
    with pytest.raises(InputError, match="exists"):
        toolkit.imatrix(tiny, tmp_path / "kept", text=license_text)
    assert (tmp_path / "kept").read_text("utf-8") == "mine"


def test_whoever_names_no_text_is_warned_of_the_one_that_is_taken(tiny, heard, tmp_path):
    request = toolkit.ImatrixRequest(tiny, tmp_path / "i.gguf", n_ctx_seq=32, chunks=1)
    toolkit.imatrix(request, heard)
    assert any("give --text FILE" in message for message in heard.warnings)
