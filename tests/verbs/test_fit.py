"""`toolkit.fit`, as a Python user calls it; a simulated device stands for the GPU, and the CPU measures."""

import pytest

import toolkit
from toolkit.errors import DoesNotFitError, InputError, QualityError


def small(checkpoint, text, folder, **fields):
    """Return a request that is measured in a moment."""
    options = {
        "n_ctx": 64,
        "text": text,
        "chunks": 2,
        "repetitions": 1,
        "profiles": ["q8_0"],
        "max_ppl_increase": 900.0,
    }
    return toolkit.FitRequest(str(checkpoint), output=str(folder), **options | fields)


def test_a_checkpoint_and_a_budget_become_a_file_with_proof(kit_checkpoint, license_text, heard, tmp_path):
    result = toolkit.fit(small(kit_checkpoint("llama3"), license_text, tmp_path, vram="16MiB"), heard)
    (file,) = tmp_path.iterdir()
    assert result.launch.path == result.trial.output == file
    assert file.stat().st_size == result.trial.choice.file.file_bytes
    assert result.trial.choice.file.profile == "Q8_0"
    assert result.trial.allocated is not None
    assert result.trial.allocated.gpu_bytes == result.trial.choice.footprint.gpu_bytes <= 16 << 20
    assert result.trial.quality.file.perplexity.value > 1
    assert result.trial.rates.generation_tokens_per_second > 0
    assert "converting to Q8_0" in heard.notes
    assert "converting" in heard.tasks


def test_what_does_not_fit_or_loses_too_much_is_an_error_and_leaves_nothing(kit_checkpoint, license_text, tmp_path):
    checkpoint = kit_checkpoint("llama3")
    with pytest.raises(DoesNotFitError, match="nothing fits"):
        toolkit.fit(small(checkpoint, license_text, tmp_path, vram="64KiB"))
    with pytest.raises(QualityError, match="the heaviest profile that fits"):
        toolkit.fit(small(checkpoint, license_text, tmp_path, vram="16MiB", max_ppl_increase=-50.0))
    assert list(tmp_path.iterdir()) == []


def test_a_use_that_there_is_not_or_without_its_text_is_an_input_error(license_text, tmp_path):
    with pytest.raises(InputError, match="'poetry' is not one of"):
        toolkit.fit(small("demo", license_text, tmp_path, vram="16MiB", use="poetry"))
    with pytest.raises(InputError, match="judged on text of its kind"):
        toolkit.fit(small("demo", None, tmp_path, vram="16MiB", use="code"))
