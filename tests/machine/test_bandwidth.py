from types import SimpleNamespace

import pytest

from toolkit.machine.bandwidth import gpu_bandwidths, measure_ram_bandwidth, ram_bandwidth


def test_the_best_round_counts():
    ticks = iter([0.0, 4.0, 10.0, 11.0, 20.0, 22.0])
    assert measure_ram_bandwidth(2, 1 << 20, lambda: next(ticks)) == 2 << 20


def test_a_measurement_is_remembered(monkeypatch, tmp_path):
    monkeypatch.setenv("GGUF_TOOLKIT_CACHE", str(tmp_path))
    monkeypatch.setattr("toolkit.machine.bandwidth.measure_ram_bandwidth", lambda: 1e10)
    assert ram_bandwidth() == 1e10
    monkeypatch.setattr("toolkit.machine.bandwidth.measure_ram_bandwidth", None)
    assert ram_bandwidth() == 1e10


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
