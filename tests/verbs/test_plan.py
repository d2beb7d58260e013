"""`toolkit.plan`, as a Python user calls it; a simulated device stands for the GPU."""

from pathlib import Path

import pytest

import toolkit
from toolkit.errors import CheckpointError, DoesNotFitError, InputError

FIXED = {"ram": "8GiB", "gpu_bandwidth": 400.0, "ram_bandwidth": 40.0}


def test_a_file_that_fits_lies_on_the_gpu_whole(tiny):
    result = toolkit.plan(tiny, vram="64MiB", n_ctx="1k", **FIXED)
    best = result.best
    assert (best.fits, best.fits_whole, best.placement.n_gpu_layers, best.n_layers) == (True, True, 3, 3)
    assert best.footprint.gpu_bytes < 64 << 20
    assert best.tokens_per_second > 0
    assert result.launch(best).path == Path(tiny)


def test_budgets_are_numbers_or_text_and_less_of_them_takes_fewer_layers(tiny):
    text, number = (
        toolkit.plan(tiny, vram=vram, n_ctx=256, margin=0, kv=["f16"], **FIXED) for vram in ("3MiB", 3 << 20)
    )
    assert text.best.placement == number.best.placement
    assert text.best.placement.n_gpu_layers < 3
    cpu = toolkit.plan(tiny, vram=0, n_ctx=256, **FIXED)
    assert cpu.best.placement.n_gpu_layers == 0


def test_where_nothing_fits_it_is_an_error_but_in_a_sweep_a_choice_that_says_what_is_missing(tiny):
    little = {"vram": 0, "n_ctx": "1k", "kv": ["f16"], **FIXED} | {"ram": "1MiB"}
    with pytest.raises(DoesNotFitError, match=r"needs .* MiB of RAM, and 1\.00 MiB are available"):
        toolkit.plan(tiny, **little)
    best = toolkit.plan(tiny, sweep=toolkit.Sweep(), **little).best
    assert not best.fits
    assert best.missing_bytes > 0


def test_a_sweep_has_every_combination(tiny):
    sweep = toolkit.Sweep(n_ctx=["256", 512], kv=["f16", "q8_0"])
    choices = toolkit.plan(tiny, vram="64MiB", sweep=sweep, **FIXED).choices
    assert {(choice.settings.n_ctx, choice.settings.kv_types.k) for choice in choices} == {
        (n_ctx, kv) for n_ctx in (256, 512) for kv in ("f16", "q8_0")
    }


def test_profiles_of_a_checkpoint_are_planned_before_anything_is_converted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = toolkit.plan("demo", profiles=["q8_0", "q4_k_m"], vram="64MiB", n_ctx=512, **FIXED)
    assert {choice.file.profile for choice in result.choices} == {"Q8_0", "Q4_K_M"}
    assert list(tmp_path.iterdir()) == []
    name = result.launch(result.best).path
    assert name.name.endswith(f"-{result.best.file.profile}.gguf")


def test_a_draft_model_named_by_a_string_takes_its_part_of_the_budget(tiny):
    result = toolkit.plan(tiny, vram="64MiB", n_ctx=256, draft=tiny, **FIXED)
    (draft,) = result.companions
    assert (draft.role, draft.path) == ("draft", Path(tiny))
    assert result.request.budgets.vram_bytes[0] < 64 << 20
    assert result.launch(result.best).draft == Path(tiny)


def test_a_context_beyond_the_trained_one_is_reported(tiny, heard):
    toolkit.plan(toolkit.PlanRequest(tiny, vram="64MiB", n_ctx="2k", **FIXED), heard)
    assert any("beyond the 1,024 tokens" in message for message in heard.warnings)


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"vram": "eight"}, InputError, "eight"),
        ({"kv": ["q9_0"]}, InputError, "KV type 'q9_0' is not one of"),
        ({"source": "/nowhere/at/all"}, CheckpointError, "/nowhere/at/all"),
    ],
)
def test_what_cannot_be_meant_is_an_error(fields, error, message, tiny):
    with pytest.raises(error, match=message):
        toolkit.plan(**{"source": tiny, "vram": "64MiB", **FIXED} | fields)
