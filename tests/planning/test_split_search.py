"""The search for a split, over devices that are arithmetic."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from made_up_device import MadeUpDevices, dense, mixture

from toolkit.errors import DoesNotFitError
from toolkit.llama.load_settings import LoadSettings
from toolkit.memory.placement import Placement, placements, spread
from toolkit.memory.plannable import Experts, model_from_source
from toolkit.memory.probe import MemoryProbe
from toolkit.memory.skeleton import write_skeleton
from toolkit.planning.budgets import Budgets
from toolkit.planning.split_search import SplitSearch
from toolkit.planning.token_speed import Bandwidths, moved_bytes, tokens_per_second
from toolkit.sources.hf_source import source_from_checkpoint

RAM = 1 << 40
layer_sizes = st.lists(st.integers(1, 1000), min_size=1, max_size=80)


def search(devices, room, n_ctx=0):
    budgets = Budgets(tuple(room), RAM)
    return SplitSearch(devices.tensors, budgets, lambda placement: devices.footprint(placement, n_ctx))


@given(layer_sizes, st.integers(0, 500), st.integers(0, 60_000), st.integers(0, 300))
def test_the_split_fits_and_the_next_step_would_not(layers, output, room, compute):
    devices = MadeUpDevices(dense(layers, output), compute_bytes=compute)
    try:
        found = search(devices, [room]).best()
    except DoesNotFitError:
        assert compute > room
        return
    assert found.footprint.gpu_bytes <= room
    assert devices.asked <= 3 + 2 * (len(layers) + 2).bit_length()
    steps = placements(devices.tensors)
    place = steps.index(found.placement)
    assert found.fits_whole == (place == len(steps) - 1)
    assert found.fits_whole or devices.footprint(steps[place + 1]).gpu_bytes > room


@example([10] * 20, 150, 25, 0)
@given(layer_sizes, st.integers(0, 20_000), st.integers(0, 300), st.integers(0, 300))
def test_a_guess_from_other_compute_buffers_ends_at_the_same_split(layers, room, compute, guessed):
    devices = MadeUpDevices(dense(layers), compute_bytes=compute)
    whole = Placement(len(layers) + 1)
    like = MadeUpDevices(devices.tensors, compute_bytes=guessed).footprint(whole)
    budgets = Budgets((room + compute,), RAM)
    guessing = SplitSearch(devices.tensors, budgets, devices.footprint, like)
    assert guessing.best() == search(devices, budgets.room).best()


@given(layer_sizes, st.integers(100, 60_000), st.integers(0, 60_000), st.integers(0, 100))
def test_a_larger_budget_never_puts_fewer_layers_on_the_gpu(layers, room, more, compute):
    devices = MadeUpDevices(dense(layers), compute_bytes=compute)
    smaller, larger = (search(devices, [size]).best().placement.n_gpu_layers for size in (room, room + more))
    assert smaller <= larger


@given(layer_sizes, st.integers(200, 60_000), st.integers(0, 50), st.integers(0, 50))
def test_a_longer_context_never_puts_more_layers_on_the_gpu(layers, room, n_ctx, more):
    devices = MadeUpDevices(dense(layers), kv_per_token=3, compute_bytes=100)
    shorter, longer = (search(devices, [room], n).best().placement.n_gpu_layers for n in (n_ctx, n_ctx + more))
    assert longer <= shorter


@given(st.integers(1, 48), st.integers(1, 50), st.integers(1, 200), st.integers(0, 30_000), st.integers(0, 30_000))
def test_more_memory_never_makes_a_mixture_slower(n_layer, attention, expert, room, more):
    devices = MadeUpDevices(mixture(n_layer, attention, expert))
    bandwidths = Bandwidths((100.0,), 10.0)

    def rate(size):
        found = search(devices, [size]).best()
        moved = moved_bytes(devices.tensors, Experts(8, 2), found.placement, found.footprint)
        return tokens_per_second(moved, bandwidths, n_layer)

    assert rate(room) <= rate(room + more) * (1 + 1e-12)


def test_experts_stay_on_the_cpu_before_attention_does():
    devices = MadeUpDevices(mixture(4, 10, 100))
    assert search(devices, [349]).best().placement == Placement(5, n_cpu_moe=3)
    assert search(devices, [39]).best().placement == Placement(4, n_cpu_moe=4)


def test_the_border_block_gives_up_single_projections():
    devices = MadeUpDevices(mixture(4, 10, 100))
    found = search(devices, [450]).best()
    assert found.placement == Placement(5, 2, ("blk.2.ffn_gate_exps.weight", "blk.2.ffn_up_exps.weight"))
    assert found.footprint.gpu_bytes == 4 * 10 + 4 * 100


@given(layer_sizes, st.lists(st.integers(0, 20_000), min_size=2, max_size=5), st.integers(0, 200))
def test_no_device_exceeds_its_budget(layers, room, compute):
    devices = MadeUpDevices(dense(layers, 50), n_devices=len(room), compute_bytes=compute)
    try:
        found = search(devices, room).best()
    except DoesNotFitError:
        return
    taken = [found.footprint.bytes_on(f"GPU{index}") for index in range(len(room))]
    assert all(used <= size for used, size in zip(taken, room, strict=True))
    assert sum(found.placement.tensor_split) == found.placement.n_gpu_layers


@given(layer_sizes, st.integers(0, 20_000), st.integers(0, 20_000), st.integers(0, 5_000))
def test_two_devices_are_monotone_in_each_budget(layers, first, second, more):
    devices = MadeUpDevices(dense(layers), n_devices=2)

    def layers_at(*room):
        return search(devices, room).best().placement.n_gpu_layers

    base = layers_at(first, second)
    assert base <= layers_at(first + more, second)
    assert base <= layers_at(first, second + more)


def test_layers_of_unequal_size_are_divided_by_bytes():
    heavy_first = [200, 200, 100, 100, 100, 100]
    assert spread(heavy_first, (400, 400)) == (2, 4)
    assert spread(heavy_first, (800, 400)) == (6, 0)
    assert spread(heavy_first, (300, 400)) is None


def test_five_devices_and_nothing_that_fits_end_in_a_bounded_number_of_questions():
    devices = MadeUpDevices(dense([100] * 60), n_devices=5, compute_bytes=1000)
    with pytest.raises(DoesNotFitError, match="even with no layer offloaded"):
        search(MadeUpDevices(dense([100] * 60), compute_bytes=1000), [999]).best()
    search(devices, [1100] * 5).best()
    assert devices.asked <= 6 * 20


def test_the_last_layer_is_the_output():
    steps = placements(dense([10] * 32, 7))
    assert [step.n_gpu_layers for step in steps] == list(range(34))
    assert dense([10] * 32, 7).layer_bytes(Placement(1)) == [7]
    assert dense([10] * 32, 7).layer_bytes(Placement(32)) == [10] * 31 + [7]


def test_a_tied_embedding_is_copied_to_the_gpu_as_the_output():
    tensors = dense([10, 10], embedding_bytes=99)
    del tensors.n_bytes["output.weight"]
    assert tensors.layer_bytes(Placement(1)) == [99]


def test_a_token_moves_the_experts_it_needs_and_one_row_of_the_embedding():
    tensors = mixture(2, 10, 80, output_bytes=5)
    tensors.n_bytes["token_embd.weight"] = 1000
    devices = MadeUpDevices(tensors)
    placement = Placement(3, n_cpu_moe=1)
    moved = moved_bytes(tensors, Experts(8, 2), placement, devices.footprint(placement))
    assert moved.gpus == (10 + 10 + 5 + 3 * 80 / 4,)
    assert moved.host == 3 * 80 / 4


def test_a_file_that_is_a_few_bytes_too_large_lacks_those_bytes(kit_checkpoint, tmp_path):
    planned = model_from_source(source_from_checkpoint(kit_checkpoint("qwen3_5")), ("q8_0",)).make("q8_0")
    skeleton = write_skeleton(planned.metadata, planned.tensors, tmp_path / "skeleton.gguf")
    with MemoryProbe(timeout_seconds=120) as probe:

        def ask(placement):
            settings = LoadSettings(n_ctx=512, n_gpu_layers=placement.n_gpu_layers, device="simulated")
            return probe.predict(skeleton.path, settings)

        whole = ask(Placement(planned.model_tensors.n_layer + 1))
        for lacking in (1, 127, 128, 4096):
            search = SplitSearch(planned.model_tensors, Budgets((whole.gpu_bytes - lacking,), RAM), ask)
            assert not search.best().fits_whole
            assert search.whole().lacks_bytes == lacking


def test_a_division_that_ends_in_no_layer_still_lacks_something():
    devices = MadeUpDevices(dense([100, 100, 100]), n_devices=2)
    found = search(devices, [150, 150])
    assert not found.best().fits_whole
    assert found.whole().lacks_bytes == 1
