from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from toolkit.devices import Gpu, Holder, Ram, list_gpus, physical_cores, read_ram

GIB = 1 << 30
HOST = Ram(64 * GIB, 60 * GIB, "the host")


class FakeNvml:
    """The part of pynvml that is used; a GPU is a dict, and a value that is an error is raised."""

    class NVMLError(Exception):
        pass

    def __init__(self, *gpus: dict[str, Any] | Exception, init_error: str | None = None) -> None:
        self.gpus, self.init_error, self.open = gpus, init_error, False

    def nvmlInit(self) -> None:  # noqa: N802
        if self.init_error:
            raise self.NVMLError(self.init_error)
        self.open = True

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open = False

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:  # noqa: N802
        return _value(self.gpus[index])

    def nvmlDeviceGetMigMode(self, handle: dict[str, Any]) -> tuple[int, int]:  # noqa: N802
        if "instances" not in handle:
            raise self.NVMLError("Not Supported")
        return 1, 1

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: dict[str, Any]) -> int:  # noqa: N802
        return len(handle["instances"])

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: dict[str, Any], index: int) -> Any:  # noqa: N802
        return _value(handle["instances"][index])

    def nvmlDeviceGetMemoryInfo(self, handle: dict[str, Any]) -> Any:  # noqa: N802
        total, free = _value(handle["memory"])
        return SimpleNamespace(total=total, free=free)

    def nvmlDeviceGetName(self, handle: dict[str, Any]) -> str | bytes:  # noqa: N802
        return handle["name"]  # type: ignore[no-any-return]

    def nvmlDeviceGetUUID(self, handle: dict[str, Any]) -> str:  # noqa: N802
        return "GPU-" + str(_text(handle["name"]))

    def nvmlDeviceGetComputeRunningProcesses(self, handle: dict[str, Any]) -> list[Any]:  # noqa: N802
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in _value(handle.get("processes", []))]


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _value(value: Any) -> Any:
    if isinstance(value, Exception):
        raise value
    return value


NO_PERMISSION = FakeNvml.NVMLError("Insufficient Permissions")


def test_a_gpu_is_listed_with_its_free_memory_and_who_holds_the_rest() -> None:
    nvml = FakeNvml({"name": b"RTX", "memory": (8 * GIB, 6 * GIB), "processes": [(42, GIB), (43, None)]})
    assert list_gpus(nvml).gpus == (Gpu("RTX", "GPU-RTX", 8 * GIB, 6 * GIB, (Holder(42, GIB), Holder(43, None))),)
    assert not nvml.open


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


@pytest.fixture
def machine(tmp_path: Path) -> Callable[..., Path]:
    def write(membership: str, files: dict[str, str | int]) -> Path:
        texts = {"proc/self/cgroup": membership} | {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
        for name, text in texts.items():
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{text}\n")
        return tmp_path

    return write


def test_a_cgroup_limit_leaves_what_is_not_used_yet(machine: Callable[..., Path]) -> None:
    root = machine(
        "0::/job",
        {
            "job/memory.max": 8 * GIB,
            "job/memory.current": 3 * GIB,
            "job/memory.stat": f"anon 5\ninactive_file {GIB}",
        },
    )
    assert read_ram(root, HOST) == Ram(8 * GIB, 6 * GIB, "cgroup v2 memory.max of /job")


def test_the_tightest_ancestor_counts(machine: Callable[..., Path]) -> None:
    root = machine(
        "0::/slice/job",
        {
            "slice/job/memory.max": 32 * GIB,
            "slice/job/memory.current": 0,
            "slice/memory.max": 16 * GIB,
            "slice/memory.current": 12 * GIB,
            "memory.max": 40 * GIB,
            "memory.current": 0,
        },
    )
    assert read_ram(root, HOST) == Ram(16 * GIB, 4 * GIB, "cgroup v2 memory.max of /slice")


def test_max_means_no_limit(machine: Callable[..., Path]) -> None:
    assert read_ram(machine("0::/", {"memory.max": "max", "memory.current": 5}), HOST) == HOST


def test_the_first_version_of_cgroups_counts_too(machine: Callable[..., Path]) -> None:
    root = machine(
        "5:cpu,cpuacct:/x\n4:memory:/docker/abc\n0::/",
        {"memory/memory.limit_in_bytes": 8 * GIB, "memory/memory.usage_in_bytes": 2 * GIB},
    )
    assert read_ram(root, HOST) == Ram(8 * GIB, 6 * GIB, "cgroup v1 memory.limit_in_bytes of /")


def test_the_unlimited_number_of_the_first_version_changes_nothing(machine: Callable[..., Path]) -> None:
    files = {"memory/memory.limit_in_bytes": 9223372036854771712, "memory/memory.usage_in_bytes": 2 * GIB}
    assert read_ram(machine("4:memory:/", files), HOST) == HOST


def test_a_machine_without_cgroups_has_its_hosts_memory(tmp_path: Path) -> None:
    assert read_ram(tmp_path, HOST) == HOST
    assert 0 < read_ram(tmp_path).available_bytes <= read_ram(tmp_path).total_bytes


def test_a_cpu_quota_limits_the_cores(machine: Callable[..., Path]) -> None:
    assert physical_cores(machine("0::/job", {"job/cpu.max": "100000 100000"})) == 1
    assert physical_cores(machine("0::/job", {"job/cpu.max": "max 100000"})) >= 1
