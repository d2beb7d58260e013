from collections.abc import Callable
from pathlib import Path

import pytest

from toolkit.machine.host import Ram, physical_cores, read_ram

GIB = 1 << 30
HOST = Ram(64 * GIB, 60 * GIB, "the host")


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


@pytest.mark.parametrize(
    ("membership", "folder", "limit", "used", "prefix"),
    [
        ("0::/job", "job", "memory.max", "memory.current", ""),
        ("4:memory:/job", "memory/job", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
    ],
)
def test_what_was_read_from_files_is_left_whether_it_was_used_lately_or_not(
    machine: Callable[..., Path], membership: str, folder: str, limit: str, used: str, prefix: str
) -> None:
    for inactive, active in ((0, 0), (5, 0), (0, 5), (2, 3)):
        statistics = (
            f"anon {GIB}\n{prefix}inactive_file {inactive * GIB}\n{prefix}active_file {active * GIB}\n"
            f"{prefix}active_anon {GIB}\n{prefix}inactive_anon 9999999\nfile {5 * GIB}"
        )
        files = {"memory.stat": statistics, limit: 7 * GIB, used: (1 + inactive + active) * GIB}
        root = machine(membership, {f"{folder}/{name}": text for name, text in files.items()})
        assert read_ram(root, HOST).available_bytes == 6 * GIB


def test_what_the_kernel_knows_of_files_is_left_too(machine: Callable[..., Path]) -> None:
    statistics = f"slab_reclaimable {GIB}\nslab_unreclaimable {GIB}\nslab {2 * GIB}\nshmem {GIB}"
    files = {"job/memory.max": 8 * GIB, "job/memory.current": 4 * GIB, "job/memory.stat": statistics}
    assert read_ram(machine("0::/job", files), HOST).available_bytes == 5 * GIB


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
    # Half a core more is worth a thread.
    assert physical_cores(machine("0::/job", {"job/cpu.max": "150000 100000"})) == min(2, physical_cores())
