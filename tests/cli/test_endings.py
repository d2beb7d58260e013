"""How the command ends when a signal or a broken pipe ends it: real processes, real pipes, real signals."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from demo_model import FIXED_TEXT, convert_demo

ROOT = Path(__file__).parents[2]
TOOL = (sys.executable, "-m", "toolkit")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def heed_signals():
    """Undo what a suite run in the background, or under nohup, hands down: signals that are ignored."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def started(*arguments, **pipes):
    command = [*TOOL, *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | pipes
    return subprocess.Popen(command, **pipes, encoding="utf-8", preexec_fn=heed_signals)  # noqa: PLW1509


def wait_until_loaded(process):
    """Read what is said up to the line that tells what was allocated; warnings may come before it."""
    assert any("allocated" in line for line in iter(process.stderr.readline, "")), process.wait(timeout=60)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return convert_demo(tmp_path_factory.mktemp("model"), "q8_0")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("--version",),
        ("plan", "--help"),
        ("architectures",),
        ("architectures", "--json"),
        ("profiles", "list"),
        ("profiles", "list", "--json"),
        ("convert", "demo", "--dry-run"),
        ("inspect", "demo", "--json"),
    ],
    ids=" ".join,
)
def test_a_pipe_that_nobody_reads_ends_with_141_and_no_word(arguments):
    reading, writing = os.pipe()
    os.close(reading)
    process = started(*arguments, stdout=writing)
    os.close(writing)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (141, "")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_head_ends_a_long_list_with_141(flags, unbuffered):
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)  # less than what is written, so that head ends first
    process = started("architectures", *flags, stdout=writing, env=os.environ | {"PYTHONUNBUFFERED": unbuffered})
    os.close(writing)
    done = subprocess.run(["head", "-1"], stdin=reading, capture_output=True, encoding="utf-8", check=True)
    os.close(reading)
    assert (process.communicate(timeout=60)[1], process.returncode) == ("", 141)
    assert done.stdout.count("\n") == 1


def test_a_broken_stderr_ends_with_141_too():
    reading, writing = os.pipe()
    os.close(reading)
    process = started("inspect", "absent.gguf", stderr=writing)
    os.close(writing)
    assert (process.communicate(timeout=60)[0], process.returncode) == ("", 141)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_a_measurement_with_128_and_its_number(number, model):
    process = started("perplexity", model, "--text", FIXED_TEXT, "--ctx", "64", "--threads", "1")
    wait_until_loaded(process)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert stdout == ""
    assert stderr.splitlines()[-1] == "interrupted", "no output was asked for, so nothing is said of one"


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("wait", [0.0, 0.01, 0.1, 0.3])
def test_a_signal_within_a_collection_leaves_no_matrix(number, wait, model, tmp_path):
    matrix = tmp_path / "m.imatrix"
    process = started("imatrix", model, "-o", matrix, "--ctx", "64", "--threads", "1")
    wait_until_loaded(process)
    time.sleep(wait)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (128 + number, "")
    assert stderr.splitlines()[-1] == "interrupted"
    assert list(tmp_path.iterdir()) == []


IMPORTING = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, {root!r})
class Slow:
    def find_spec(self, name, *_):
        if name == {module!r}:
            os.kill(os.getpid(), {number})
sys.meta_path.insert(0, Slow())
from toolkit.__main__ import main
sys.argv[1:] = ["profiles", "list"]
main()
"""


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("module", ["toolkit.cli", "click", "toolkit.errors"])
def test_a_signal_among_the_imports_shows_no_traceback(module, number):
    program = IMPORTING.format(root=str(ROOT), module=module, number=int(number))
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False, preexec_fn=heed_signals)
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", "interrupted\n")


def test_what_the_parent_ignores_stays_ignored():
    def ignore():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    program = IMPORTING.format(root=str(ROOT), module="click", number=int(signal.SIGHUP))
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False, preexec_fn=ignore)
    assert done.returncode == 0, done.stderr


def test_the_installed_command_is_the_one_that_takes_signals_from_the_first_import_on():
    assert 'gguf-toolkit = "toolkit.__main__:main"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_the_codes_are_in_the_help():
    stdout = subprocess.run([*TOOL, "--help"], capture_output=True, encoding="utf-8", check=True).stdout
    for code in ("129, 130, 143", "141"):
        assert code in stdout


WITH_A_BUG = """
import sys
from toolkit import json_files
from toolkit.cli import main
json_files.read_json_object.__code__ = (lambda path, *others: path + 1).__code__
sys.argv = ["gguf-toolkit", "plan", sys.argv[1], "--vram", "8GiB"]
main()
"""
"""the real command with a mistake in one of its functions"""


@pytest.mark.parametrize("shows", ["", "0", "1"])
def test_a_mistake_of_the_toolkit_ends_with_70_and_asks_for_a_report(shows, tmp_path):
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    environment = os.environ | {"GGUF_TOOLKIT_TRACEBACK": shows}
    done = subprocess.run(
        [sys.executable, "-c", WITH_A_BUG, str(tmp_path / "config.json")],
        capture_output=True,
        encoding="utf-8",
        check=False,
        env=environment,
        cwd=ROOT,
    )
    *before, last = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (70, "")
    assert last.startswith("error: this is a bug, please report: TypeError: unsupported operand type(s) for +")
    assert last.endswith(" (GGUF_TOOLKIT_TRACEBACK=1 shows more)")
    assert ("Traceback (most recent call last):" in before) is (shows == "1")
    assert before == [] or shows == "1"
