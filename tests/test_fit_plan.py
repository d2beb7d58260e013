"""The choice of a file, over a made-up device: a layer takes its share of the weights, and the KV cache of its context."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.demo import demo_checkpoint
from toolkit.errors import DoesNotFitError
from toolkit.fit_plan import FitPlanner, FitRequest
from toolkit.hf_source import source_from_checkpoint
from toolkit.memory import DeviceBytes, Footprint
from toolkit.planner import Budget, Prefer

SOURCE = source_from_checkpoint(demo_checkpoint())
LAYERS = SOURCE.traits.n_layer + 1
MIB = 1 << 20
KV_BYTES = {"f16": 512, "q8_0": 272}
COMPUTE = 100_000


class MadeUpDevice:
    """Answers from the size of the skeleton; counts how often it is asked."""

    def __init__(self):
        self.asked = 0

    def probe(self, path, settings):
        self.asked += 1
        share = settings.n_gpu_layers / LAYERS
        weights, kv = path.stat().st_size, KV_BYTES[settings.kv_type_k] * settings.n_ctx
        compute = COMPUTE if settings.n_gpu_layers else 0
        gpu = DeviceBytes("GPU", False, round(weights * share), round(kv * share), compute)
        host = DeviceBytes("CPU", True, weights - gpu.weights_bytes, kv - gpu.kv_cache_bytes, COMPUTE)
        return Footprint((gpu, host), "a made-up device")


def candidates(vram_bytes, n_ctx=512, ram_bytes=1 << 40, **request):
    with FitPlanner(SOURCE, FitRequest(Budget(vram_bytes), n_ctx, ram_bytes, **request), MadeUpDevice()) as planner:
        return planner.candidates()


def first(*arguments, **options):
    choice = candidates(*arguments, **options)[0].choice
    return choice.profile, choice.kv_type, choice.split.n_gpu_layers


def test_the_best_profile_that_fits_whole_is_chosen():
    assert first(64 * MIB) == ("Q8_0", "f16", LAYERS)
    assert first(5 * MIB) == ("Q6_K", "f16", LAYERS)


def test_a_smaller_kv_cache_comes_before_a_smaller_file():
    assert first(6 * MIB, n_ctx=1800) == ("Q8_0", "q8_0", LAYERS)


def test_below_four_bits_a_split_q4_k_m_comes_before_a_smaller_file():
    profile, _, layers = first(3 * MIB)
    assert profile == "Q4_K_M"
    assert 0 < layers < LAYERS


def test_speed_prefers_the_smaller_file_whole_and_quality_the_larger_one_split():
    assert first(3 * MIB, prefer=Prefer.SPEED)[::2] == ("Q3_K_M", LAYERS)
    profile, _, layers = first(3 * MIB, prefer=Prefer.QUALITY)
    assert profile == "Q8_0"
    assert layers < LAYERS


def test_runners_up_follow_and_are_other_profiles():
    names = [candidate.choice.profile for candidate in candidates(64 * MIB)]
    assert names == ["Q8_0", "Q6_K", "Q5_K_M"]


def test_what_fits_nowhere_ends_with_what_would():
    with pytest.raises(
        DoesNotFitError, match=r"nothing fits 97.7 KiB of VRAM at a context of 512: Q2_K with q8_0 KV needs"
    ):
        candidates(COMPUTE)


def test_a_split_that_leaves_too_much_for_the_ram_is_no_candidate():
    with pytest.raises(DoesNotFitError):
        candidates(3 * MIB // 2, ram_bytes=MIB // 4)


def test_backing_off_goes_to_the_next_heavier_profile_with_fewer_layers():
    budget = 5 * MIB
    with FitPlanner(SOURCE, FitRequest(Budget(budget), 512, 1 << 40), MadeUpDevice()) as planner:
        chosen = planner.candidates()[0]
        heavier = planner.heavier(chosen)
        assert (chosen.choice.profile, heavier.choice.profile) == ("Q6_K", "Q8_0")
        assert heavier.choice.split.n_gpu_layers < LAYERS
        assert planner.heavier(heavier) is None


@settings(max_examples=30, deadline=None)
@given(st.integers(COMPUTE, 10 * MIB), st.sampled_from(Prefer))
def test_a_chosen_split_fits_and_one_more_layer_would_not(vram_bytes, prefer):
    device = MadeUpDevice()
    with FitPlanner(SOURCE, FitRequest(Budget(vram_bytes), 512, 1 << 40, prefer), device) as planner:
        try:
            chosen = planner.candidates()[0]
        except DoesNotFitError:
            return
        assert chosen.choice.split.footprint.gpu_bytes <= vram_bytes
        assert device.asked < 100
        if not chosen.choice.split.fits_whole:
            one_more = replace(chosen.settings(512), n_gpu_layers=chosen.choice.split.n_gpu_layers + 1)
            assert device.probe(planner._skeleton(chosen.choice.profile), one_more).gpu_bytes > vram_bytes


@settings(max_examples=20, deadline=None)
@given(st.integers(COMPUTE * 2, 8 * MIB), st.integers(0, 2 * MIB))
def test_more_vram_never_gives_fewer_layers_or_a_smaller_whole_file(vram_bytes, more):
    def rating(budget):
        try:
            choice = candidates(budget)[0].choice
        except DoesNotFitError:
            return (0, 0)
        return (2, choice.file_bytes) if choice.split.fits_whole else (1, choice.split.n_gpu_layers)

    assert rating(vram_bytes) <= rating(vram_bytes + more)
