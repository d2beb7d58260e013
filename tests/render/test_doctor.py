"""What a machine can do, for machines that are made up."""

from dataclasses import replace
from pathlib import Path

import pytest

from toolkit.llama.cpu_trial import WORKS
from toolkit.llama.offload_build import OffloadBuild
from toolkit.machine.gpus import Gpu, Holder
from toolkit.machine.host import Ram
from toolkit.planning.margin import Overhead
from toolkit.render.doctor import doctor_document, doctor_lines
from toolkit.verbs.doctor import DoctorResult, Versions

GIB = 1 << 30
CARD = Gpu("RTX 3060", "GPU-1", 12 * GIB, 11 * GIB, (Holder(7, GIB), Holder(8, None)))
MACHINE = DoctorResult(
    gpus=(),
    gpu_bytes_per_second=(),
    overheads=(),
    notes=("no driver",),
    build=OffloadBuild(True, ("CUDA", "RPC")),
    trial=WORKS,
    ram=Ram(32 * GIB, 16 * GIB, "the machine"),
    ram_bytes_per_second=0.0,
    disk_path=Path("/models"),
    disk_free_bytes=100 * GIB,
    threads=8,
    cache=None,
    versions=Versions("3.12.1", "Linux 6.1 x86_64", {"llama-cpp-python": "0.3.36", "psutil": None}),
    advice=(),
)
WITH_CARD = replace(
    MACHINE, gpus=(CARD,), gpu_bytes_per_second=(360e9,), overheads=(Overhead("RTX 3060", "570", 300 << 20, "NVML"),)
)


@pytest.fixture
def lines():
    return {line[:18].strip(): line[18:] for line in doctor_lines(MACHINE)}


def test_a_machine_without_a_gpu_says_why_none_was_found(lines):
    assert lines["GPU"] == "none found (no driver)"
    assert lines["llama-cpp-python"] == "0.3.36, built for CUDA, RPC"
    assert lines["RAM"] == "16.0 GiB available of 32.0 GiB (the machine)"
    assert (lines["threads"], lines["cache"]) == ("8", "off")
    assert lines["disk"] == "100 GiB free at /models"
    assert lines["versions"] == "llama-cpp-python 0.3.36, psutil missing"


def test_what_was_not_measured_is_not_shown(lines):
    assert "RAM bandwidth" not in lines
    shown = doctor_lines(replace(MACHINE, ram_bytes_per_second=40e9))
    assert "RAM bandwidth     40.0 GB/s read by 8 threads" in shown
    assert doctor_document(MACHINE)["ram"]["bytes_per_second"] is None


def test_a_gpu_has_a_line_for_its_memory_and_one_for_what_a_process_takes():
    first, second = (line for line in doctor_lines(WITH_CARD) if line.startswith("GPU"))
    assert first.endswith("RTX 3060: 11.0 GiB free of 12.0 GiB, 360 GB/s, held by 2 processes (NVML)")
    assert second.endswith("beyond the buffers a process takes 300 MiB, measured")


def test_a_script_reads_the_same():
    document = doctor_document(WITH_CARD)
    (gpu,) = document["gpus"]
    assert (gpu["name"], gpu["bytes_per_second"], gpu["overhead_bytes"]) == ("RTX 3060", 360e9, 300 << 20)
    assert gpu["held_by"] == [{"pid": 7, "used_bytes": GIB}, {"pid": 8, "used_bytes": None}]
    assert (document["healthy"], document["cache"], document["notes"]) == (True, None, ["no driver"])
    assert document["versions"]["psutil"] is None


def test_advice_stands_apart_at_the_end():
    assert doctor_lines(replace(MACHINE, advice=("buy a GPU", "free the disk")))[-4:] == [
        "",
        "-> buy a GPU",
        "",
        "-> free the disk",
    ]


def test_without_llama_cpp_nothing_is_healthy():
    missing = replace(MACHINE, build=OffloadBuild(False, ()))
    assert "llama-cpp-python  missing" in doctor_lines(missing)
    assert not doctor_document(missing)["healthy"]
