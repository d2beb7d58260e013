"""What is measured beside the buffers, and the margin that follows; the GPU is NVML's in name only, its memory a loopback device."""

from dataclasses import replace

import pytest
from fake_nvml import FakeNvml

from toolkit.errors import EnvironmentFaultError
from toolkit.llama.footprint import DeviceBytes, Footprint
from toolkit.machine.disk_cache import DiskCache
from toolkit.machine.gpus import Gpu, Holder
from toolkit.memory.probe import MemoryProbe
from toolkit.planning.calibration import calibrate, observations, taken
from toolkit.planning.margin import KnownOverheads, Overhead, default_margin, measured_overhead
from toolkit.units import GIB, MIB

CARD = Gpu("RTX", "GPU-RTX", 24 * GIB, 23 * GIB, driver="570.1")
CONTEXT = 312 * MIB
FOOTPRINT = Footprint(
    (DeviceBytes("CUDA0", False, 3 * GIB, GIB, 0), DeviceBytes("CPU", True, GIB, 0, 0)), "a card", ("CUDA0",)
)


@pytest.fixture
def known(tmp_path):
    return KnownOverheads(DiskCache(tmp_path))


class WatchedNvml(FakeNvml):
    """Sees the child take its buffers and CONTEXT beside them, as soon as it holds a model."""

    def __init__(self, tells_processes=True):
        super().__init__({"name": "RTX", "memory": (24 * GIB, 23 * GIB)})
        self._tells_processes = tells_processes

    def loaded(self, pid, footprint):
        held = footprint.gpu_bytes + CONTEXT
        self.gpus[0]["memory"] = (24 * GIB, 23 * GIB - held)
        self.gpus[0]["processes"] = [(pid, held if self._tells_processes else None), (1, GIB)]


@pytest.fixture
def watched(monkeypatch):
    def watch(nvml):
        hold = MemoryProbe.hold

        def watching(self, path, settings):
            footprint = hold(self, path, settings)
            nvml.loaded(self.pid, footprint)
            return footprint

        monkeypatch.setattr(MemoryProbe, "hold", watching)
        return nvml

    return watch


@pytest.mark.parametrize("tells_processes", [True, False])
def test_what_a_loaded_model_takes_beyond_its_buffers_is_measured_and_kept(watched, known, tells_processes):
    nvml = watched(WatchedNvml(tells_processes))
    origin = "NVML's account of the process" if tells_processes else "what is free on the GPU, before and after"
    measured = Overhead("RTX", "570.1", CONTEXT, origin)
    assert calibrate(known, nvml, device="simulated") == (measured,)
    assert known.get(CARD) == measured
    assert known.get(replace(CARD, driver="580.2")) is None


def test_the_account_of_the_process_counts_before_what_is_free():
    after = replace(CARD, free_bytes=10 * GIB, holders=(Holder(1, GIB), Holder(7, 5 * GIB)))
    assert taken(CARD, after, 7)[0] == 5 * GIB
    assert taken(CARD, after, 8)[0] == 13 * GIB
    [seen] = observations((CARD,), (after,), FOOTPRINT, 7)
    assert (seen.taken_bytes, seen.buffer_bytes, seen.overhead.n_bytes) == (5 * GIB, 4 * GIB, GIB)


def test_without_a_gpu_there_is_nothing_to_measure(known):
    with pytest.raises(EnvironmentFaultError, match="no NVIDIA GPU here to measure; plans go on leaving 6 %") as caught:
        calibrate(known, FakeNvml(init_error="NVML Shared Library Not Found"))
    assert caught.value.exit_code == 4


def test_a_build_that_cannot_use_the_gpu_is_told_with_the_line_that_helps(known, monkeypatch):
    from toolkit.llama.offload_build import OffloadBuild

    monkeypatch.setattr("toolkit.planning.calibration.offload_build", lambda: OffloadBuild(True, ("RPC",)))
    with pytest.raises(EnvironmentFaultError, match=r"built without offload, so RTX cannot be measured.*GGML_CUDA=on"):
        calibrate(known, WatchedNvml())


def test_a_measured_gpu_keeps_free_what_was_measured_and_one_per_cent(known):
    assumed = default_margin((8 * GIB,), (CARD,), known)
    assert assumed == 8 * GIB * 6 // 100
    assert default_margin((24 * GIB,), (CARD,), known) == 512 * MIB
    known.put(Overhead("RTX", "570.1", CONTEXT, "NVML's account of the process"))
    assert default_margin((8 * GIB,), (CARD,), known) == CONTEXT + 8 * GIB // 100
    assert default_margin((8 * GIB,), (CARD, replace(CARD, name="other")), known) == assumed


def test_a_machine_counts_as_measured_when_all_its_gpus_are(known):
    assert measured_overhead((), known) is None
    known.put(Overhead("RTX", "570.1", CONTEXT, "NVML"))
    assert measured_overhead((CARD,), known) == CONTEXT
    assert measured_overhead((CARD, replace(CARD, name="other")), known) is None
    known.put(Overhead("other", "570.1", 2 * CONTEXT, "NVML"))
    assert measured_overhead((CARD, replace(CARD, name="other")), known) == 2 * CONTEXT


def test_windows_own_driver_model_gets_a_larger_margin(known):
    desktop = replace(CARD, wddm=True)
    assert default_margin((8 * GIB,), (desktop,), known) == 8 * GIB * 6 // 100 + 8 * GIB * 4 // 100
    assert default_margin((100 * GIB,), (desktop,), known) == 1024 * MIB


def test_a_damaged_record_is_none(known, tmp_path):
    known.put(Overhead("RTX", "570.1", CONTEXT, "NVML"))
    next(tmp_path.iterdir()).write_text('{"bytes": "much"}')
    assert known.get(CARD) is None
