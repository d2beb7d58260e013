"""`toolkit.doctor`, as a Python user calls it."""

import pytest

import toolkit
from toolkit.errors import EnvironmentFaultError
from toolkit.machine.gpus import GpuList


def test_the_machine_is_described_without_measuring(tmp_path):
    result = toolkit.doctor(str(tmp_path), measure=False)
    assert (result.healthy, result.disk_path, result.ram_bytes_per_second) == (True, tmp_path, 0.0)
    assert result.ram.total_bytes >= result.ram.available_bytes > 0
    assert result.threads >= 1
    assert result.versions.distributions["llama-cpp-python"]
    assert len(result.overheads) == len(result.gpus)


def test_without_a_gpu_there_is_nothing_to_calibrate(monkeypatch):
    monkeypatch.setattr("toolkit.planning.calibration.list_gpus", lambda _nvml: GpuList(()))
    with pytest.raises(EnvironmentFaultError, match="no NVIDIA GPU here to measure"):
        toolkit.doctor(calibrate=True, measure=False)
