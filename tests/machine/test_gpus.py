from types import SimpleNamespace

import pytest
from fake_nvml import FakeNvml

from toolkit.machine.gpus import Gpu, Holder, gpu_bandwidths, list_gpus

GIB = 1 << 30
NO_PERMISSION = FakeNvml.NVMLError("Insufficient Permissions")


def test_a_gpu_is_listed_with_its_free_memory_and_who_holds_the_rest() -> None:
    nvml = FakeNvml({"name": b"RTX", "memory": (8 * GIB, 6 * GIB), "processes": [(42, GIB), (43, None)]})
    assert list_gpus(nvml).gpus == (
        Gpu("RTX", "GPU-RTX", 8 * GIB, 6 * GIB, (Holder(42, GIB), Holder(43, None)), driver="570.1"),
    )
    assert not nvml.open


def test_windows_own_driver_model_is_told_apart() -> None:
    found = list_gpus(FakeNvml(*({"name": "A", "memory": (GIB, GIB), "driver_model": model} for model in (0, 1))))
    assert [gpu.wddm for gpu in found.gpus] == [True, False]


def test_without_a_driver_there_are_no_gpus_and_a_note() -> None:
    found = list_gpus(FakeNvml(init_error="NVML Shared Library Not Found"))
    assert found.gpus == ()
    assert found.notes == ("NVML: NVML Shared Library Not Found",)


def test_the_real_module_answers_on_this_machine() -> None:
    found = list_gpus()
    assert found.gpus or found.notes


def test_mig_instances_stand_for_a_gpu_whose_own_memory_may_not_be_read() -> None:
    instances = [{"name": f"MIG {n}", "memory": (10 * GIB, 9 * GIB)} for n in range(2)]
    unused = FakeNvml.NVMLError("Not Found")
    nvml = FakeNvml({"name": "A100", "memory": NO_PERMISSION, "instances": [*instances, unused]})
    found = list_gpus(nvml)
    assert [(gpu.name, gpu.total_bytes) for gpu in found.gpus] == [("MIG 0", 10 * GIB), ("MIG 1", 10 * GIB)]
    assert found.notes == ()


def test_a_gpu_that_cannot_be_read_is_skipped_with_a_note() -> None:
    nvml = FakeNvml(NO_PERMISSION, {"name": "B", "memory": NO_PERMISSION}, {"name": "C", "memory": (GIB, GIB)})
    found = list_gpus(nvml)
    assert [gpu.name for gpu in found.gpus] == ["C"]
    assert found.notes == ("GPU 0 skipped: Insufficient Permissions", "GPU 1 skipped: Insufficient Permissions")


def test_processes_that_may_not_be_seen_do_not_hide_the_gpu() -> None:
    nvml = FakeNvml({"name": "A", "memory": (GIB, GIB), "processes": NO_PERMISSION})
    assert list_gpus(nvml).gpus[0].holders == ()


class NvmlError(Exception):
    pass


def nvml(*cards, broken=False):
    def init():
        if broken:
            raise NvmlError

    def clock(card, _kind):
        if card is None:
            raise NvmlError
        return card[0]

    return SimpleNamespace(
        NVMLError=NvmlError,
        NVML_CLOCK_MEM=2,
        nvmlInit=init,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetCount=lambda: len(cards),
        nvmlDeviceGetHandleByIndex=lambda index: cards[index],
        nvmlDeviceGetMaxClockInfo=clock,
        nvmlDeviceGetMemoryBusWidth=lambda card: card[1],
    )


def test_a_card_moves_its_bus_twice_a_clock():
    assert gpu_bandwidths(nvml((9751, 384), (2619, 5120))) == pytest.approx((936e9, 3352e9), rel=0.001)


def test_what_does_not_tell_is_left_out():
    assert gpu_bandwidths(nvml(None)) == ()
    assert gpu_bandwidths(nvml(broken=True)) == ()
