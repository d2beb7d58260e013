"""GPUs that are made up: NVIDIA's through NVML, Apple's and a processor's own through ggml, and the pool that they share."""

from dataclasses import replace

import pytest
from fake_nvml import FakeNvml

from toolkit.demo import demo_checkpoint
from toolkit.errors import DoesNotFitError
from toolkit.llama.footprint import DeviceBytes, Footprint
from toolkit.llama.gpus import ReportedDevice, as_gpu, find_gpus
from toolkit.llama.load_settings import F16_KV, LoadSettings
from toolkit.llama.offload_build import OffloadBuild
from toolkit.machine.gpus import Gpu
from toolkit.machine.host import Ram
from toolkit.memory.plannable import model_from_source
from toolkit.planning.budgets import Budgets
from toolkit.planning.planner import Planner
from toolkit.planning.request import PlanningRequest
from toolkit.planning.token_speed import Bandwidths
from toolkit.sources.hf_source import source_from_checkpoint
from toolkit.units import GIB, MIB

NO_NVML = FakeNvml(init_error="NVML Shared Library Not Found")
MAC = Ram(32 * GIB, 26 * GIB, "the host")
WORKING_SET = 2180 * GIB // 100
METAL = ReportedDevice("MTL0", "Apple M2 Pro", False, WORKING_SET, WORKING_SET)
BOARD = Ram(30 * GIB, 27 * GIB, "the host")


def gpus_of(build, *devices, nvml=NO_NVML, ram=MAC):
    return find_gpus(nvml, OffloadBuild(True, build), lambda: devices, ram).gpus


def test_nvidias_gpus_are_nvmls():
    nvml = FakeNvml({"name": "RTX", "memory": (8 * GIB, 7 * GIB)})
    [gpu] = gpus_of(("CUDA", "RPC"), nvml=nvml)
    assert (gpu.name, gpu.origin, gpu.shares_ram) == ("RTX", "NVML", False)


def test_ggml_is_asked_only_where_it_was_built_for_another_maker():
    assert gpus_of(("CUDA", "RPC"), METAL) == ()
    assert gpus_of((), METAL) == ()
    assert [gpu.name for gpu in gpus_of(("Metal",), METAL)] == ["Apple M2 Pro"]


def test_apples_memory_is_what_the_system_recommends_and_counts_once():
    [gpu] = gpus_of(("Metal", "RPC"), METAL)
    assert (gpu.free_bytes, gpu.total_bytes, gpu.shares_ram) == (WORKING_SET, WORKING_SET, True)
    assert gpu.origin == "ggml, MTL0"


def test_a_raised_limit_is_followed_as_far_as_memory_is_free():
    raised = replace(METAL, free_bytes=28 * GIB, total_bytes=28 * GIB)
    assert as_gpu(raised, MAC).free_bytes == 26 * GIB
    assert as_gpu(raised, replace(MAC, available_bytes=29 * GIB)).free_bytes == 28 * GIB


def test_memory_set_apart_for_a_processors_own_gpu_is_not_the_hosts():
    carved_out = ReportedDevice("ROCm0", "Radeon 8060S", True, 95 * GIB, 96 * GIB)
    assert as_gpu(carved_out, BOARD) == Gpu("Radeon 8060S", "ROCm0", 96 * GIB, 95 * GIB, origin="ggml, ROCm0")


def test_a_shared_heap_is_the_hosts():
    shared = ReportedDevice("Vulkan0", "Intel UHD", True, 20 * GIB, 20 * GIB)
    assert as_gpu(shared, BOARD).shares_ram
    assert not as_gpu(replace(shared, integrated=False), BOARD).shares_ram


class HalfAndHalf:
    """A device and a host that hold as much, whatever the split."""

    def ask(self, _skeleton, settings):
        on_gpu = DeviceBytes("MTL0", False, 6 * MIB if settings.n_gpu_layers else 0, 0, 0)
        return Footprint((on_gpu, DeviceBytes("CPU", True, 6 * MIB, 0, 0)), "made up", ("MTL0",))


@pytest.mark.parametrize(("one_pool", "ram", "fits"), [(True, 12, True), (True, 11, False), (False, 11, True)])
def test_one_pool_has_to_do_for_both(one_pool, ram, fits):
    model = model_from_source(source_from_checkpoint(demo_checkpoint()), ("q8_0",))
    budgets = Budgets((64 * MIB,), ram * MIB, one_pool=one_pool)
    request = PlanningRequest(budgets, LoadSettings(n_ctx=512), Bandwidths((1e11,), 1e10), (F16_KV,), explicit=True)
    with Planner(model, request, HalfAndHalf()) as planner:
        if fits:
            assert planner.choices()[0].fits_whole
        else:
            with pytest.raises(DoesNotFitError, match=r"needs 12\.0 MiB of RAM, and 11\.0 MiB are available"):
                planner.choices()
