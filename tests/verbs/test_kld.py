"""`toolkit.kld`, as a Python user calls it."""

import pytest

import toolkit
from toolkit.errors import InputError


@pytest.fixture
def short(license_text):
    return {"text": license_text, "n_ctx_seq": 64, "chunks": 2}


def test_a_quantized_file_diverges_a_little_from_its_base(tiny, tiny_q8_0, short):
    result = toolkit.kld(tiny_q8_0, base=tiny, **short)
    assert 0 < result.mean_kld < 0.01
    assert (result.verdict, result.against) == (None, None)
    assert result.measured.divergence.chunks == 2


def test_a_file_does_not_diverge_from_itself(tiny, short):
    assert toolkit.kld(tiny, base=tiny, **short).mean_kld == pytest.approx(0, abs=1e-6)


def test_saved_logits_stand_for_the_base_and_every_file_may_be_named_by_a_string(tiny, tiny_q8_0, short, tmp_path):
    saved = str(tmp_path / "base.logits")
    live = toolkit.kld(tiny_q8_0, base=tiny, save_logits=saved, **short)
    # Saved logits have 16 bits.
    again = toolkit.kld(tiny_q8_0, base_logits=saved, against=tiny)
    assert again.mean_kld == pytest.approx(live.mean_kld, abs=1e-4)
    assert again.against is not None
    assert again.against.divergence.divergence.mean.value < again.mean_kld
    assert (str(again.base), again.base_devices) == (saved, None)


def test_a_threshold_that_is_missed_is_a_verdict_and_not_an_error(tiny, tiny_q8_0, short):
    kept = toolkit.kld(tiny_q8_0, base=tiny, max_kld=1.0, **short)
    missed = toolkit.kld(tiny_q8_0, base=tiny, max_kld=1e-9, **short)
    assert kept.verdict is not None
    assert missed.verdict is not None
    assert (kept.verdict.holds, missed.verdict.holds) == (True, False)


def test_requests_that_contradict_themselves_are_input_errors(tiny, tmp_path):
    with pytest.raises(InputError, match="either --base"):
        toolkit.kld(tiny)
    with pytest.raises(InputError, match="nothing to save"):
        toolkit.kld(tiny, base_logits=tmp_path / "x", save_logits=tmp_path / "y")
    with pytest.raises(InputError, match="something to decide"):
        toolkit.kld(tiny, base=tiny, until_decided=True)
    with pytest.raises(InputError, match="cannot fall by 100 per cent"):
        toolkit.kld(tiny, base=tiny, max_ppl_increase=-200)
