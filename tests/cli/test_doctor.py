"""`doctor`: what it prints here, and its advice for machines that are made up."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from toolkit.cli import cli
from toolkit.errors import EnvironmentFaultError
from toolkit.llama.cpu_trial import Trial
from toolkit.llama.offload_build import OffloadBuild, install_line, offload_build, rebuild_line, reinstall_line
from toolkit.machine.gpus import Gpu, GpuList
from toolkit.planning.margin import Overhead, known_overheads
from toolkit.verbs.doctor import LITTLE_DISK, advice_for

CARD = Gpu("NVIDIA RTX 3060", "GPU-1", 12 << 30, 11 << 30)
EVERYTHING = OffloadBuild(True, ("CUDA", "RPC"))


def doctor(*words):
    return CliRunner(catch_exceptions=False).invoke(cli, ["doctor", "--no-measure", *words])


def test_one_document_says_what_the_machine_has():
    result = doctor("--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 0
    assert found["schema"] == "gguf-toolkit/doctor/2"
    assert found["threads"] >= 1
    assert found["ram"]["total_bytes"] >= found["ram"]["available_bytes"] > 0
    assert found["ram"]["origin"]
    assert found["disk"]["free_bytes"] > 0
    assert found["versions"]["llama-cpp-python"] == found["llama_cpp_python_version"]


def test_a_person_reads_the_same():
    lines = doctor().stdout.splitlines()
    assert [line.split()[0] for line in lines if line.startswith(("GPU", "llama-cpp", "RAM", "disk", "threads"))]
    assert any(line.startswith("llama-cpp-python") and "built for" in line for line in lines)


def test_a_gpu_says_what_was_measured_beyond_buffers_or_how_to_measure_it(monkeypatch, tmp_path):
    monkeypatch.setenv("GGUF_TOOLKIT_CACHE", str(tmp_path))
    monkeypatch.setattr("toolkit.verbs.doctor.find_gpus", lambda: GpuList((CARD,)))
    assert "not measured: doctor --calibrate" in doctor().stdout
    known_overheads().put(Overhead(CARD.name, CARD.driver, 300 << 20, "NVML"))
    assert "beyond the buffers a process takes 300 MiB, measured" in doctor().stdout
    assert json.loads(doctor("--json").stdout)["gpus"][0]["overhead_bytes"] == 300 << 20


def test_without_a_gpu_there_is_nothing_to_calibrate(monkeypatch):
    monkeypatch.setattr("toolkit.planning.calibration.list_gpus", lambda _nvml: GpuList(()))
    with pytest.raises(EnvironmentFaultError, match="no NVIDIA GPU here to measure") as caught:
        doctor("--calibrate")
    assert caught.value.exit_code == 4


def test_the_bandwidth_is_measured_and_remembered(monkeypatch, tmp_path):
    monkeypatch.setenv("GGUF_TOOLKIT_CACHE", str(tmp_path))
    result = CliRunner(catch_exceptions=False).invoke(cli, ["doctor", "--json"])
    assert json.loads(result.stdout)["ram"]["bytes_per_second"] > 0
    assert len(list((tmp_path / "bandwidth").iterdir())) == 1


def test_a_gpu_that_the_build_cannot_use_comes_with_the_line_that_helps():
    found = advice_for((CARD,), OffloadBuild(True, ("RPC",)), LITTLE_DISK)
    assert found == [f"llama-cpp-python was built without offload, NVIDIA RTX 3060 stays idle: {reinstall_line()}"]


@pytest.mark.parametrize(
    ("vendor", "option"), [("NVIDIA", "CUDA"), ("AMD", "HIP"), ("Apple", "METAL"), ("Intel", "VULKAN")]
)
def test_the_line_builds_for_the_vendor_and_for_servers(vendor, option):
    line = reinstall_line(vendor)
    assert f"-DGGML_{option}=on -DGGML_RPC=on" in line
    assert line.endswith("llama-cpp-python")


AMX_FLAGS = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"


@pytest.mark.parametrize(
    ("flags", "switched_off"), [("flags\t: fpu avx2 amx_tile amx_int8", True), ("flags\t: avx2", False)]
)
def test_lines_build_without_amx_where_the_processor_has_it(monkeypatch, flags, switched_off):
    monkeypatch.setattr("toolkit.llama.offload_build.processor_line", lambda *_keys: flags)
    for line in (install_line(), reinstall_line(), rebuild_line(EVERYTHING)):
        assert (f'CFLAGS="{AMX_FLAGS}" CXXFLAGS="{AMX_FLAGS}" CMAKE_ARGS=' in line) is switched_off
        assert line.endswith("llama-cpp-python")


def test_a_rebuild_keeps_the_devices_of_the_build():
    assert 'CMAKE_ARGS="-DGGML_CUDA=on -DGGML_RPC=on"' in rebuild_line(OffloadBuild(True, ("CUDA",)))
    assert 'CMAKE_ARGS="-DGGML_RPC=on"' in rebuild_line(OffloadBuild(True, ()))


@pytest.mark.parametrize(
    ("trial", "exit_code", "healthy", "cause"),
    [
        (Trial(), 0, True, None),
        (Trial("SIGSEGV", "AMX", "Q4_0", 4), 0, True, "the compiler of llama-cpp-python got some kernels wrong"),
        (Trial("SIGILL", "CPU", "F32", 1), 4, False, "llama-cpp-python was built for another processor"),
    ],
)
def test_a_build_that_dies_on_this_processor_is_told_with_the_line_that_helps(
    monkeypatch, trial, exit_code, healthy, cause
):
    monkeypatch.setattr("toolkit.verbs.doctor.cpu_trial", lambda: trial)
    text, document = doctor(), json.loads(doctor("--json").stdout)
    assert (text.exit_code, document["healthy"]) == (exit_code, healthy)
    found = document["llama_cpp_python"]["trial"]
    assert (found["fault"], found["buffer_type"], found["tensor_type"]) == (
        trial.fault,
        trial.buffer_type,
        trial.tensor_type,
    )
    assert (found["computes"], found["extra_buffers"]) == (healthy, trial.fault is None)
    assert f"this processor    {trial.summary}" in text.stdout
    advice_given = [line for line in document["advice"] if "processor" in line or "kernels" in line]
    assert len(advice_given) == (0 if cause is None else 1)
    assert all(line.startswith(cause) and rebuild_line(offload_build()) in line for line in advice_given)
    assert all(f"-> {line}" in text.stdout for line in advice_given)


def test_what_is_missing_is_told():
    assert "not installed" in advice_for((), OffloadBuild(False, ()), LITTLE_DISK)[0]
    assert "without RPC" in advice_for((), OffloadBuild(True, ()), LITTLE_DISK)[0]
    assert "disk space" in advice_for((), EVERYTHING, LITTLE_DISK - 1)[0]
    assert advice_for((CARD,), EVERYTHING, LITTLE_DISK) == []


def test_a_build_is_told_from_its_files(tmp_path: Path):
    for name in ("libggml-base.so.0", "libggml-cpu.so.0", "libggml-cuda.so", "libggml-rpc.so"):
        (tmp_path / name).touch()
    found = offload_build(tmp_path)
    assert found == OffloadBuild(True, ("CUDA", "RPC"))
    assert found.offloads
    assert not offload_build(tmp_path / "elsewhere").offloads
