"""Choices among profiles, KV types and contexts, over devices that are arithmetic."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_device import MIB, MadeUpDevices

from toolkit.demo import demo_checkpoint
from toolkit.errors import DoesNotFitError, GgufError, InputError
from toolkit.llama.footprint import DeviceBytes, Footprint
from toolkit.llama.load_settings import KvTypes, LoadSettings
from toolkit.memory.plannable import model_from_source
from toolkit.planning.budgets import Budgets
from toolkit.planning.planner import Planner
from toolkit.planning.ranking import LADDER, Prefer
from toolkit.planning.request import PlanningRequest
from toolkit.planning.token_speed import Bandwidths
from toolkit.sources.hf_source import source_from_checkpoint

SOURCE = source_from_checkpoint(demo_checkpoint())
LAYERS = SOURCE.traits.n_layer + 1
KV_BYTES = {"f16": 512, "q8_0": 272}
COMPUTE = 100_000
RAM = 1 << 40


class MadeUp:
    """Takes the skeleton's size for the weights, shared out by layers."""

    def ask(self, skeleton, settings):
        share = settings.n_gpu_layers / LAYERS
        weights, kv = skeleton.path.stat().st_size, KV_BYTES[settings.kv_types.k] * settings.n_ctx
        gpu = DeviceBytes("GPU", False, round(weights * share), round(kv * share), COMPUTE if share else 0)
        host = DeviceBytes("CPU", True, weights - gpu.weights_bytes, kv - gpu.kv_cache_bytes, COMPUTE)
        return Footprint((gpu, host), "made up", ("GPU",))


def planner(vram, n_ctx=512, ram=RAM, profiles=LADDER, memory_source=None, margin=0, **request):
    bandwidths = Bandwidths((400e9,), 40e9)
    asked = PlanningRequest(Budgets((vram,), ram, margin), LoadSettings(n_ctx=n_ctx), bandwidths, **request)
    return Planner(model_from_source(SOURCE, profiles), asked, memory_source or MadeUp())


def choices(*arguments, **options):
    with planner(*arguments, **options) as one:
        return one.choices()


def test_the_largest_file_that_fits_whole_comes_first():
    found = choices(64 * MIB)
    assert [choice.file.profile for choice in found] == ["Q8_0", "Q6_K", "Q5_K_M"]
    assert all(choice.fits_whole and choice.settings.n_gpu_layers == LAYERS for choice in found)
    assert [choice.tokens_per_second for choice in found] == sorted(choice.tokens_per_second for choice in found)


def test_named_profiles_are_planned_whether_they_fit_whole_or_not():
    found = choices(3 * MIB, profiles=("q8_0", "q2_k"), explicit=True)
    assert {choice.file.profile for choice in found} == {"Q8_0", "Q2_K"}
    assert all(0 < choice.settings.n_gpu_layers <= LAYERS for choice in found)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 8 * MIB), st.integers(0, 2 * MIB))
def test_every_choice_leaves_the_margin_free(vram, margin):
    for choice in choices(vram, margin=margin):
        assert choice.footprint.gpu_bytes == 0 or choice.footprint.gpu_bytes + margin <= vram


def test_a_file_that_fits_but_for_the_margin_does_not_fit_whole():
    with planner(64 * MIB, profiles=("q4_k_m",), explicit=True) as one:
        taken = one.choice("q4_k_m", KvTypes("f16", "f16")).footprint.gpu_bytes
    for spare, fits_whole in ((MIB, True), (MIB - 1, False), (0, False)):
        with planner(taken + spare, profiles=("q4_k_m",), explicit=True, margin=MIB) as one:
            choice = one.choice("q4_k_m", KvTypes("f16", "f16"))
        assert choice.fits_whole == fits_whole
        assert (choice.whole.lacks_bytes if choice.whole else 0) == MIB - spare


def test_a_split_has_a_lower_predicted_rate_than_the_whole():
    whole, split = (choices(size, profiles=("q4_k_m",), explicit=True)[0] for size in (64 * MIB, 2 * MIB))
    assert whole.fits_whole
    assert not split.fits_whole
    assert split.tokens_per_second < whole.tokens_per_second


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 8 * MIB), st.integers(0, 4 * MIB))
def test_more_vram_never_gives_a_slower_plan_of_the_same_file(vram, more):
    def rate(size):
        with planner(size, profiles=("q4_k_m",), explicit=True) as one:
            return one.choice("q4_k_m", KvTypes("f16", "f16")).tokens_per_second

    assert rate(vram) <= rate(vram + more)


@settings(max_examples=40, deadline=None)
@given(st.integers(COMPUTE, 8 * MIB), st.integers(256, 8192), st.integers(0, 8192))
def test_more_context_never_gives_a_larger_offload(vram, n_ctx, more):
    with planner(vram, profiles=("q4_k_m",), explicit=True) as one:
        shorter, longer = (one.choice("q4_k_m", KvTypes("f16", "f16"), n) for n in (n_ctx, n_ctx + more))
    assert longer.settings.n_gpu_layers <= shorter.settings.n_gpu_layers


def test_a_budget_of_zero_plans_for_the_cpu_alone():
    found = choices(0)
    assert [choice.settings.n_gpu_layers for choice in found] == [0, 0, 0]
    assert found[0].file.profile == "Q8_0"


def test_where_not_one_layer_fits_the_gpu_the_cpu_does_it_and_the_plan_says_what_lacks():
    found = choices(2 * COMPUTE)
    assert {choice.file.profile for choice in found} == {"Q4_K_M"}
    for choice in found:
        assert choice.fits
        assert not choice.fits_whole
        assert choice.settings.n_gpu_layers == 0
        with planner(2 * COMPUTE + choice.first_layer_lacks_bytes) as one:
            kv_types = choice.settings.kv_types
            assert one.choice("q4_k_m", kv_types).settings.n_gpu_layers == 1


def test_where_not_even_buffers_fit_the_gpu_takes_no_part():
    class Hungry(MadeUp):
        def ask(self, skeleton, settings):
            if settings.device == "cpu":
                return super().ask(skeleton, settings)
            gpu = DeviceBytes("GPU", False, 0, 0, 2 * MIB)
            return Footprint((gpu, *super().ask(skeleton, settings).devices), "made up", ("GPU",))

    found = choices(MIB, memory_source=Hungry())
    assert all(choice.fits and choice.settings.device == "cpu" for choice in found)
    assert all(choice.footprint.gpu_bytes == 0 for choice in found)
    assert all(choice.first_layer_lacks_bytes >= MIB for choice in found)


def test_a_smaller_profile_takes_over_where_q4_k_m_is_too_much_for_both_memories():
    found = choices(COMPUTE, ram=3 * MIB)
    assert [choice.file.profile for choice in found] == ["Q3_K_M"]


def test_a_heavier_profile_keeps_the_kv_type_and_puts_fewer_layers_on_the_gpu():
    with planner(5 * MIB) as one:
        chosen = one.choices()[0]
        heavier = one.heavier(chosen)
        assert (chosen.file.profile, heavier.file.profile) == ("Q6_K", "Q8_0")
        assert heavier.settings.n_gpu_layers < LAYERS
        assert heavier.settings.kv_types.k == chosen.settings.kv_types.k
        assert one.heavier(heavier) is None


def test_what_the_ram_cannot_hold_fits_nowhere_and_says_how_much_it_needs():
    with pytest.raises(
        DoesNotFitError, match=r"Q2_K with q8_0 KV at a context of 512 needs .* of RAM, and 1\.00 MiB are"
    ):
        choices(0, ram=MIB)


def test_a_sweep_has_every_combination_and_says_what_lacks():
    with planner(5 * MIB, profiles=("q8_0", "q4_k_m")) as one:
        found = one.sweep([512, 4096])
    grid = [(choice.file.profile, choice.settings.kv_types.k, choice.settings.n_ctx) for choice in found]
    assert grid == [(p, kv, n) for p in ("Q8_0", "Q4_K_M") for kv in ("f16", "q8_0") for n in (512, 4096)]


def test_the_longest_context_fits_and_the_next_would_not():
    with planner(6 * MIB, profiles=("q4_k_m",)) as one:
        found = one.longest_context("q4_k_m", KvTypes("f16", "f16"), 1 << 20)
        after = one.choice("q4_k_m", KvTypes("f16", "f16"), found.settings.n_ctx + 256)
    assert found.fits_whole
    assert found.settings.n_ctx % 256 == 0
    assert not after.fits_whole


def test_the_longest_context_is_no_longer_than_what_is_asked_for():
    with planner(640 * MIB, profiles=("q4_k_m",)) as one:
        assert one.longest_context("q4_k_m", KvTypes("f16", "f16"), 1000).settings.n_ctx == 1000


def test_a_quantized_v_cache_without_flash_attention_is_refused_with_both_ways_out():
    off = LoadSettings(n_ctx=512, flash_attention="off")
    request = PlanningRequest(Budgets((MIB,), RAM), off, Bandwidths((1.0,), 1.0), (KvTypes("f16", "q8_0"),))
    with pytest.raises(InputError, match=r"q8_0 V cache needs flash attention.*--flash-attention auto, or --kv f16"):
        Planner(model_from_source(SOURCE, LADDER), request, MadeUp())


def test_a_kv_type_that_the_model_cannot_have_is_not_proposed_and_refused_when_asked_for():
    class Picky(MadeUp):
        def ask(self, skeleton, settings):
            if settings.kv_types.k != "f16":
                raise GgufError("K cache type q8_0 with block size 32 does not divide n_embd_head_k=80")
            return super().ask(skeleton, settings)

    found = choices(64 * MIB, memory_source=Picky())
    assert {choice.settings.kv_types.k for choice in found} == {"f16"}
    with pytest.raises(InputError, match=r"KV type q8_0: .*block size 32.*use --kv f16"):
        choices(64 * MIB, memory_source=Picky(), kv_types=(KvTypes("q8_0", "q8_0"),))


def test_speed_prefers_the_smaller_file_whole():
    assert choices(3 * MIB, prefer=Prefer.SPEED)[0].file.profile == "Q3_K_M"


def test_several_gpus_are_filled_one_after_the_other():
    model = model_from_source(SOURCE, ("q4_k_m",))
    devices = MadeUpDevices(model.make("q4_k_m").model_tensors, n_devices=2, compute_bytes=COMPUTE)
    request = PlanningRequest(
        Budgets((2 * MIB, 3 * MIB), RAM), LoadSettings(n_ctx=512, n_devices=2), Bandwidths((1e9,), 1e8)
    )
    with Planner(model, request, devices) as one:
        choice = one.choice("q4_k_m", KvTypes("f16", "f16"))
    assert sum(choice.placement.tensor_split) == choice.settings.n_gpu_layers
    assert choice.footprint.bytes_on("GPU0") <= 2 * MIB
    assert choice.footprint.bytes_on("GPU1") <= 3 * MIB
