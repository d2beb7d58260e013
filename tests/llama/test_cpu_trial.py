"""A build that dies on this processor is found in a child process, and models are loaded without what kills it."""

import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from broken_build import build_that_dies
from tiny_model import write_tiny_model

from toolkit.errors import EnvironmentFaultError
from toolkit.gguf.ggml_types import FLOAT_TYPES, TYPES
from toolkit.llama.cpu_products import N_ROWS, products
from toolkit.llama.cpu_trial import PLAIN, WORKS, Trial, cpu_trial, refuse_broken_build, run_trial
from toolkit.llama.load_settings import LoadSettings
from toolkit.llama.parameters import ModelParameters
from toolkit.machine.disk_cache import DiskCache


def child(line: str, end: str) -> tuple[str, ...]:
    """Return a command that says which product it is at, and ends."""
    return sys.executable, "-c", f"import os, time; os.write(1, b{line!r}); {end}"


def raises(name: str) -> str:
    return f"os.kill(os.getpid(), {int(getattr(signal, name))})"


@pytest.mark.parametrize("name", ["SIGILL", "SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE"])
def test_the_signal_that_ends_the_child_is_told_with_the_product_that_it_was_at(name: str) -> None:
    found = run_trial(child(f"{PLAIN} F32 1\n{PLAIN} Q8_0 4\n", raises(name)))
    assert found == Trial(name, PLAIN, "Q8_0", 4)
    assert not found.computes
    assert not found.extra_buffers
    assert found.summary == f"multiplying Q8_0 weights in CPU buffers with a batch of 4 ends in {name}"


def test_a_build_that_dies_in_buffers_of_its_own_computes_without_them() -> None:
    found = run_trial(child(f"{PLAIN} Q8_0 64\nAMX Q8_0 4\n", raises("SIGILL")))
    assert found == Trial("SIGILL", "AMX", "Q8_0", 4)
    assert found.computes
    assert not found.extra_buffers


def test_a_library_that_dies_when_it_is_loaded_does_not_compute() -> None:
    found = run_trial(child("", raises("SIGILL")))
    assert found == Trial("SIGILL")
    assert not found.computes
    assert found.summary == "loading it ends in SIGILL"


@pytest.mark.parametrize("end", [raises("SIGKILL"), raises("SIGTERM"), "os._exit(4)", "time.sleep(60)"])
def test_what_tells_nothing_of_the_build_is_no_answer(end: str) -> None:
    assert run_trial(child(f"{PLAIN} F32 1\n", end), timeout_seconds=0.3) is None
    assert run_trial(("/nowhere/python",)) is None


def test_every_type_is_multiplied_in_every_batch_before_the_layouts_of_kernels() -> None:
    lines = [line.split() for line in products()]
    kinds = [type_.name for type_ in TYPES.values() if type_.quantized or type_ in FLOAT_TYPES]
    plain = [(PLAIN, name, str(n_rows)) for name in kinds for n_rows in N_ROWS]
    assert [tuple(line) for line in lines[: len(plain)]] == plain
    assert all(line[0] != PLAIN for line in lines[len(plain) :])


def test_the_build_of_this_environment_computes_on_this_processor() -> None:
    assert run_trial() == WORKS


def kept(folder: Path) -> list[dict[str, object]]:
    return [json.loads(file.read_text().splitlines()[-1]) for file in (folder / "cpu").iterdir()]


def test_the_answer_is_kept_for_the_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GGUF_TOOLKIT_CACHE", str(tmp_path / "first"))
    assert cpu_trial() == WORKS
    assert kept(tmp_path / "first") == [asdict(WORKS)]
    plant(tmp_path / "second", Trial("SIGILL", "AMX", "Q8_0", 4), monkeypatch)
    assert cpu_trial() == Trial("SIGILL", "AMX", "Q8_0", 4)


def test_a_fault_that_does_not_come_again_is_heeded_but_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GGUF_TOOLKIT_CACHE", str(tmp_path))
    ends = iter([Trial("SIGABRT", PLAIN, "F32", 1), WORKS])
    monkeypatch.setattr("toolkit.llama.cpu_trial.run_trial", lambda: next(ends))
    assert cpu_trial().fault == "SIGABRT"
    assert not (tmp_path / "cpu").exists()


def plant(folder: Path, trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an answer be known for the build that is here, as if its trial had ended so."""
    monkeypatch.setenv("GGUF_TOOLKIT_CACHE", str(folder))
    monkeypatch.setattr("toolkit.llama.cpu_trial.run_trial", lambda: trial)
    cpu_trial()
    monkeypatch.undo()
    monkeypatch.setenv("GGUF_TOOLKIT_CACHE", str(folder))


def test_a_damaged_answer_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GGUF_TOOLKIT_CACHE", str(tmp_path))
    monkeypatch.setattr(DiskCache, "get", lambda _self, _key: ["SIGILL"])
    assert cpu_trial() == WORKS


@pytest.mark.parametrize(("trial", "used"), [(WORKS, True), (Trial("SIGSEGV", "CPU_REPACK", "Q4_0", 4), False)])
def test_models_are_loaded_with_extra_buffers_only_where_these_compute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trial: Trial, used: bool
) -> None:
    plant(tmp_path, trial, monkeypatch)
    assert ModelParameters(LoadSettings(n_ctx=512), None).structure.use_extra_bufts is used


def test_the_refusal_says_the_cause_and_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path / "ill", Trial("SIGILL", PLAIN, "F32", 1), monkeypatch)
    with pytest.raises(EnvironmentFaultError, match=r"built for another processor .*; build it on this machine: .*pip"):
        refuse_broken_build()
    plant(tmp_path / "abort", Trial("SIGABRT", PLAIN, "F32", 1), monkeypatch)
    with pytest.raises(EnvironmentFaultError, match=r"does not compute on this processor .*; build it again: .*pip"):
        refuse_broken_build()


QUICK = ("-p", "8", "-n", "2", "-r", "1", "-t", "1", "--json")


def test_a_model_runs_where_repacked_weights_end_the_process_and_one_line_says_so(run_command, tmp_path) -> None:
    model = tmp_path / "q4_0.gguf"
    run_command("quantize", write_tiny_model(tmp_path / "tiny.gguf"), model, "--profile", "q4_0").check_returncode()
    done = run_command("bench", model, *QUICK, env=build_that_dies(tmp_path, "SIGSEGV", "CPU_REPACK"))
    assert done.returncode == 0, done.stderr
    repacks = any(line.startswith("CPU_REPACK") for line in products())
    told = [line for line in done.stderr.splitlines() if "without extra buffers" in line]
    assert len(told) == (1 if repacks else 0)
    assert [answer["fault"] for answer in kept(tmp_path / "cache")] == ["SIGSEGV" if repacks else None]
    [row] = json.loads(done.stdout)["results"]
    assert all(device["allocated_bytes"] == device["predicted_bytes"] for device in row["devices"])


@pytest.mark.parametrize("name", ["SIGILL", "SIGSEGV", "SIGABRT"])
def test_a_build_that_computes_nothing_is_one_line_before_anything_is_loaded(run_command, tmp_path, name) -> None:
    model = write_tiny_model(tmp_path / "tiny.gguf")
    done = run_command("bench", model, *QUICK, env=build_that_dies(tmp_path, name, PLAIN))
    [line] = [line for line in done.stderr.splitlines() if not line.startswith("warning: other processes")]
    assert (done.returncode, done.stdout) == (4, "")
    assert line.startswith("error: llama-cpp-python ")
    assert f"ends in {name}" in line
    assert "pip install" in line


def test_the_trial_is_made_in_the_build_that_is_named(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("GGUF_TOOLKIT_CACHE", str(tmp_path / "cache"))
    for variable, value in build_that_dies(tmp_path, "SIGABRT", PLAIN).items():
        if os.environ.get(variable) != value:
            monkeypatch.setenv(variable, value)
    assert run_trial() == Trial("SIGABRT", PLAIN, "F32", 1)
