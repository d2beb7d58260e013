"""How a file is loaded for what is free: planned, checked once more just before, and compared with what was taken."""

from contextlib import contextmanager, nullcontext
from dataclasses import fields, replace

import pytest
from tiny_model import TinyShape, write_tiny_model

from toolkit.errors import DoesNotFitError
from toolkit.llama.load_settings import KvTypes, LoadSettings, TensorOverride
from toolkit.llama.run_settings import run_settings
from toolkit.llama.runtime import LlamaRuntime
from toolkit.memory.cache import CachedProbe, MemoryCache
from toolkit.memory.probe import MemoryProbe
from toolkit.planning.budgets import Budgets
from toolkit.planning.load_plan import (
    BudgetLimits,
    LoadRequest,
    plan_just_before_loading,
    plan_load,
    predicted_and_allocated,
    read_budgets,
)

MIB, GIB = 1 << 20, 1 << 30
LAYERS = 5
SETTINGS = LoadSettings(n_ctx=256, n_batch=256, n_ubatch=256, device="simulated")
ROOMY = Budgets((64 * MIB,), GIB)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.gguf", TinyShape(n_layer=LAYERS - 1))


@pytest.fixture(scope="module")
def memory_source():
    with MemoryProbe(timeout_seconds=60) as probe:
        yield CachedProbe(probe, MemoryCache(None))


class Readings:
    """What is free, time after time."""

    def __init__(self, *vram_bytes):
        self._left = list(vram_bytes)

    def __call__(self):
        return replace(ROOMY, vram_bytes=(self._left.pop(0),))


def test_as_many_layers_as_fit_go_to_the_device(model, memory_source):
    whole = plan_load(LoadRequest(model, SETTINGS), ROOMY, memory_source)
    assert (whole.settings.n_gpu_layers, whole.choice.fits_whole) == (LAYERS, True)
    some = plan_load(LoadRequest(model, SETTINGS), Budgets((3 * MIB,), GIB), memory_source)
    assert 0 < some.settings.n_gpu_layers < LAYERS
    assert some.choice.footprint.gpu_bytes <= 3 * MIB


def test_memory_that_fell_while_planning_is_planned_for_once_more_and_said(model, memory_source):
    told = []
    plan = plan_just_before_loading(
        LoadRequest(model, SETTINGS), Readings(64 * MIB, 3 * MIB), lambda: nullcontext(memory_source), told.append
    )
    assert 0 < plan.settings.n_gpu_layers < LAYERS
    assert told == ["free memory changed while tiny.gguf was planned (device 0: 64.0 MiB -> 3.00 MiB): planned again"]


def test_memory_that_fell_and_still_suffices_changes_nothing(model, memory_source):
    told = []
    plan = plan_just_before_loading(
        LoadRequest(model, SETTINGS), Readings(64 * MIB, 32 * MIB), lambda: nullcontext(memory_source), told.append
    )
    assert plan.settings.n_gpu_layers == LAYERS
    assert told == []


def test_memory_is_read_again_only_when_nobody_is_being_asked_any_more(model, memory_source):
    events = []

    @contextmanager
    def asking():
        events.append("ask")
        yield memory_source
        events.append("done")

    def read():
        events.append("read")
        return ROOMY

    plan_just_before_loading(LoadRequest(model, SETTINGS), read, asking, lambda _: None)
    assert events == ["read", "ask", "done", "read"]


def test_a_split_by_hand_for_which_memory_fell_is_not_loaded(model, memory_source):
    by_hand = LoadRequest(model, SETTINGS, n_gpu_layers=99)
    with pytest.raises(
        DoesNotFitError, match=rf"with {LAYERS} of {LAYERS} layers on the GPU it needs .* give a lower -ngl"
    ):
        plan_just_before_loading(
            by_hand, Readings(64 * MIB, 3 * MIB), lambda: nullcontext(memory_source), lambda _: None
        )


def test_overrides_by_hand_are_checked_with_every_layer_on_the_device(model, memory_source):
    overrides = (TensorOverride(r"blk\.0\.ffn_"),)
    request = LoadRequest(model, replace(SETTINGS, tensor_overrides=overrides))
    plan = plan_load(request, ROOMY, memory_source)
    assert (plan.settings.n_gpu_layers, plan.settings.tensor_overrides) == (LAYERS, overrides)
    needed = plan.choice.footprint.gpu_bytes
    missing = r"it needs .*, 1\.00 KiB more than the .* that may be taken; give a lower -ngl or other overrides"
    with pytest.raises(DoesNotFitError, match=missing):
        plan_load(request, Budgets((needed - 1024,), GIB), memory_source)


def test_where_nothing_can_be_offloaded_the_cpu_does_it(model, memory_source):
    for vram in ((0,), ()):
        plan = plan_load(LoadRequest(model, SETTINGS), Budgets(vram, GIB), memory_source)
        assert (plan.settings.device, plan.settings.n_gpu_layers) == ("cpu", 0)
        assert plan.choice.footprint.gpu_bytes == 0


def test_ram_has_to_hold_what_is_not_mapped_and_without_mapping_all_of_it(model, memory_source):
    on_cpu = LoadRequest(model, replace(SETTINGS, device="cpu"))
    plan = plan_load(on_cpu, Budgets((), GIB), memory_source)
    weights = sum(device.mappable_bytes for device in plan.choice.footprint.devices)
    assert weights > MIB
    assert plan.needed_ram_bytes == plan.choice.footprint.host_bytes - weights
    tight = Budgets((), plan.needed_ram_bytes)
    assert plan_load(on_cpu, tight, memory_source).choice.fits
    with pytest.raises(DoesNotFitError, match="of RAM beside what can be mapped"):
        plan_load(replace(on_cpu, use_mmap=False), tight, memory_source)


def test_a_gpu_whose_memory_is_the_hosts_counts_once(model, memory_source):
    whole = plan_load(LoadRequest(model, SETTINGS), ROOMY, memory_source)
    pool = whole.needed_ram_bytes + whole.choice.footprint.gpu_bytes
    shared = replace(ROOMY, ram_bytes=pool, one_pool=True)
    assert plan_load(LoadRequest(model, SETTINGS), shared, memory_source).needed_ram_bytes == pool
    with pytest.raises(DoesNotFitError, match="of RAM beside what can be mapped"):
        plan_load(LoadRequest(model, SETTINGS), replace(shared, ram_bytes=pool - 1), memory_source)


@pytest.mark.parametrize("use_mmap", [True, False])
def test_a_load_takes_what_was_predicted_mapped_or_not(model, memory_source, use_mmap):
    request = LoadRequest(model, replace(SETTINGS, device="cpu", kv_types=KvTypes("q8_0")), use_mmap=use_mmap)
    plan = plan_load(request, Budgets((), GIB), memory_source)
    with LlamaRuntime(model, run_settings(plan.settings, 1, use_mmap=use_mmap)) as runtime:
        (held,) = predicted_and_allocated(plan, runtime.footprint())
    assert held.predicted_bytes == held.allocated_bytes == held.weights_bytes + held.kv_cache_bytes + held.compute_bytes
    assert (held.mapped_bytes > 0) == use_mmap
    assert held.mapped_bytes <= model.stat().st_size


def test_a_run_has_every_setting_of_its_plan():
    settings = LoadSettings(
        n_ctx=512, n_parallel=4, kv_unified=True, swa_full=True, kv_types=KvTypes("q8_0"), flash_attention="on", device="cpu",
        tensor_overrides=(TensorOverride("ffn"),), tensor_split=(1.0, 2.0), n_gpu_layers=3,
    )  # fmt: skip
    run = run_settings(settings, 2)
    for field in fields(LoadSettings):
        assert getattr(run, field.name) == getattr(settings, field.name)
    assert (run.device_pointers, run.n_threads) == ((), 2)


def test_a_limit_on_ram_is_no_more_than_there_is():
    assert read_budgets((), BudgetLimits(ram_bytes=5)).ram_bytes == 5
    assert read_budgets((), BudgetLimits(ram_bytes=1 << 60)).ram_bytes < 1 << 60
