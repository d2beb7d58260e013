"""What changes the toolkit to see whether tests notice: it tells the noticed from the others, and never works on old text."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "mutate"
UNITS = Path(__file__).parents[1] / "toolkit" / "units.py"
ENTRY = """
[[mutants]]
name = "{name}"
file = "toolkit/units.py"
old = '{old}'
new = '{new}'
tests = ["tests/test_units.py"]
"""


def mutate(folder, entries, *options):
    """Run a list of (name, old, new)."""
    path = folder / "mutants.toml"
    path.write_text("".join(ENTRY.format(name=name, old=old, new=new) for name, old, new in entries), encoding="utf-8")
    command = [sys.executable, SCRIPT, "--list", path, "--results", folder / "results.jsonl", *options]
    return subprocess.run(list(map(str, command)), capture_output=True, encoding="utf-8", check=False, timeout=120)


def test_a_change_that_tests_notice_is_killed_and_another_survives_and_the_tree_stays_as_it_is(tmp_path):
    before = UNITS.read_bytes()
    noticed = ("a size may be short", "KIB, MIB, GIB, TIB = 1 << 10,", "KIB, MIB, GIB, TIB = 1000,")
    unnoticed = ("a reason is left out", '"""Return `0.4 s`', '"""Give `0.4 s`')
    done = mutate(tmp_path, [noticed, unnoticed], "--no-baseline")
    assert done.returncode == 1, done.stderr
    assert "2 mutants: 1 killed, 1 survived, 0 equivalent" in done.stdout
    assert "FAILED tests/test_units.py::" in done.stdout
    assert done.stdout.endswith("  2 toolkit/units.py: a reason is left out\n")
    assert (tmp_path / "results.jsonl").read_text(encoding="utf-8").count("\n") == 2
    assert UNITS.read_bytes() == before


@pytest.mark.parametrize(
    ("old", "message"),
    [
        ("this stands nowhere", "1 a name: toolkit/units.py has the old text 0 times"),
        ("return", "1 a name: toolkit/units.py has the old text"),
    ],
)
def test_a_text_that_is_not_there_exactly_once_is_an_error(tmp_path, old, message):
    done = mutate(tmp_path, [("a name", old, "x")])
    assert done.returncode == 2
    assert message in done.stdout
