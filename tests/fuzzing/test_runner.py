"""Damaged files of every kind are read or refused; and what is neither is seen."""

import subprocess
import sys
from pathlib import Path

import pytest
from fuzzing import runner, targets
from fuzzing.cases import Case
from fuzzing.runner import _kind, run_batch
from fuzzing.targets import COMMANDS, READERS, Target

from toolkit.cli import COMMANDS as NAMES
from toolkit.errors import ToolkitError

SCRIPT = Path(__file__).parents[2] / "scripts" / "fuzz"
GROUPS = [[target.name for target in READERS[start::4]] for start in range(4)]
LIGHT = [target.name for target in COMMANDS if target.share >= 0.005]


def fuzzed(names, runs):
    words = [word for name in names for word in ("--target", name)]
    command = [sys.executable, str(SCRIPT), *words, "--runs", str(runs), "--seconds", "300", "--workers", "1"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("names", [*GROUPS, LIGHT], ids=["first", "second", "third", "fourth", "commands"])
def test_damaged_files_are_read_or_refused(names):
    done = fuzzed(names, 60 if names is LIGHT else 350)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(f"\n{name} " in done.stdout for name in names)


@pytest.mark.parametrize(
    "target", [target for target in (*READERS, *COMMANDS) if target.share >= 0.005], ids=lambda target: target.name
)
def test_undamaged_files_are_read(target, tmp_path, monkeypatch):
    if target.name == "hub listing":
        return  # its library asks the endpoint that was set when it was imported
    monkeypatch.setattr(targets, "_other_arguments", lambda arguments, _random: arguments)
    case = target.make(tmp_path / "case")
    case.read(case.folder, runner.Random(1))


def test_every_command_is_a_target():
    driven = {target.name.split()[1] for target in COMMANDS}
    assert driven == set(NAMES)


@pytest.fixture
def made_up(monkeypatch):
    def add(read):
        def make(folder):
            folder.mkdir()
            (folder / "a.json").write_text("{}", encoding="utf-8")
            return Case(folder, read)

        monkeypatch.setitem(targets.TARGETS, "made up", Target("made up", make))
        return run_batch("made up", range(10))

    return add


def test_refusals_are_told_from_faults_and_a_fault_is_listed_once_with_its_seed(made_up):
    def read(_folder, random):
        raise ToolkitError("no") if random.random() < 0.5 else KeyError("x")

    tally = made_up(read)
    assert tally.runs == 10
    assert tally.refused + tally.n_faults == 10
    assert 0 < tally.n_faults < 10
    [(seed, what)] = tally.faults
    assert "KeyError" in _kind(what)
    assert run_batch("made up", range(seed, seed + 1)).n_faults == 1


def test_a_run_that_hangs_is_a_fault(made_up, monkeypatch):
    monkeypatch.setattr(runner, "MAX_SECONDS", 0.02)

    def read(_folder, _random):
        while True:
            pass

    tally = made_up(read)
    assert tally.n_faults == 10
    assert "longer than" in tally.faults[0][1]


def test_files_are_whole_again_after_each_run(tmp_path):
    (tmp_path / "a.json").write_text('{"a": [1, 2]}', encoding="utf-8")
    seen = []
    case = Case(tmp_path, lambda folder, _random: seen.append((folder / "a.json").read_bytes()))
    for seed in range(20):
        case.run(runner.Random(seed))
    assert len(set(seen)) > 10
    assert (tmp_path / "a.json").read_bytes() == b'{"a": [1, 2]}'


def test_an_unknown_target_is_refused():
    done = fuzzed(["gguff"], 1)
    assert done.returncode == 2
    assert "no target is called 'gguff'" in done.stderr
