"""`toolkit.perplexity`, as a Python user calls it."""

import hashlib
from pathlib import Path

import pytest

import toolkit
from toolkit.errors import InputError, TextError


def test_a_file_reads_a_text_and_says_what_was_measured(tiny, license_text):
    result = toolkit.perplexity(tiny, text=license_text, n_ctx_seq=64, chunks=2)
    assert result.gguf == Path(tiny)
    # An untrained model does no better than a guess among its 297 tokens.
    assert result.perplexity > 297
    assert 0 < result.standard_error < result.perplexity
    assert result.text.sha256 == hashlib.sha256(Path(license_text).read_bytes()).hexdigest()
    assert (result.text.is_chat, result.stride) == (False, None)
    assert result.seconds > 0


def test_the_same_text_gives_the_same_number_with_a_request_and_a_reporter_that_hears_of_it(tiny, license_text, heard):
    request = toolkit.PerplexityRequest(tiny, text=license_text, n_ctx_seq=64, chunks=2)
    assert toolkit.perplexity(request, heard).perplexity == toolkit.perplexity(request).perplexity
    assert heard.tasks == ["perplexity"]


def test_logits_are_saved_under_a_name_that_is_a_string_and_never_replaced_unasked(tiny, license_text, tmp_path):
    options = {"text": license_text, "n_ctx_seq": 32, "chunks": 1, "save_logits": str(tmp_path / "saved.logits")}
    toolkit.perplexity(tiny, **options)
    assert (tmp_path / "saved.logits").stat().st_size > 0
    with pytest.raises(InputError, match="exists"):
        toolkit.perplexity(tiny, **options)
    assert toolkit.perplexity(tiny, **options, force=True).perplexity > 0


def test_a_text_that_is_too_short_is_an_error(tiny, tmp_path):
    (tmp_path / "short.txt").write_text("too short", "utf-8")
    with pytest.raises(TextError):
        toolkit.perplexity(tiny, text=str(tmp_path / "short.txt"))
