"""`--converter`: somebody else's converter runs only when it is asked for, loudly, and leaves nothing behind."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from toolkit.gguf.reader import read_gguf

FAKE = """
import pathlib, shutil, sys, time
checkpoint, *options = sys.argv[1:]
assert options[:3] == ["--outtype", "bf16", "--outfile"], options
print("Loading", pathlib.Path(checkpoint).name)
folder = pathlib.Path(options[3])
shutil.copyfile({file!r}, folder / "Fake-5M-BF16.gguf")
{more}
"""


@pytest.fixture
def fake(converted, tmp_path):
    """Give a function that makes a checkout whose converter gives the kit's qwen3, and then runs some code."""

    def make(more=""):
        checkout = tmp_path / "llama.cpp"
        checkout.mkdir(exist_ok=True)
        script = FAKE.format(file=str(converted("qwen3", "bf16")), more=more)
        (checkout / "convert_hf_to_gguf.py").write_text(script, encoding="utf-8")
        return checkout

    return make


@pytest.fixture
def place(tmp_path):
    place = tmp_path / "place"
    place.mkdir()
    return place


@pytest.fixture
def unknown(kit_checkpoint, tmp_path):
    """Give a checkpoint of a class that is not known here."""
    directory = shutil.copytree(kit_checkpoint("qwen3"), tmp_path / "unknown", copy_function=shutil.copyfile)
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    (directory / "config.json").write_text(json.dumps(config | {"architectures": ["NewForCausalLM"]}), encoding="utf-8")
    return directory


def test_an_unknown_architecture_converts_through_the_converter_and_it_is_said(
    unknown, fake, place, run_command, converted
):
    without = run_command("convert", unknown, cwd=place)
    assert (without.returncode, "`convert --converter PATH`" in without.stderr) == (2, True)
    done = run_command("convert", unknown, "-p", "q8_0", "--converter", fake(), cwd=place)
    assert done.returncode == 0, done.stderr
    script = fake() / "convert_hf_to_gguf.py"
    assert f"warning: running {script} with {sys.executable}: a program that is not part of this toolkit" in done.stderr
    assert "converter: Loading unknown" in done.stderr
    assert [path.name for path in place.iterdir()] == ["Fake-5M-Q8_0.gguf"]
    ours, expected = read_gguf(place / "Fake-5M-Q8_0.gguf"), read_gguf(converted("qwen3", "q8_0"))
    assert {name: rows.data.tobytes() for name, rows in ours.tensors.items()} == {
        name: rows.data.tobytes() for name, rows in expected.tensors.items()
    }


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            "raise SystemExit('NotImplementedError: no such model')",
            "failed with status 1: NotImplementedError: no such",
        ),
        ("import no_such_library", "name an interpreter that has its requirements with --converter-python"),
        (
            "shutil.copyfile(folder / 'Fake-5M-BF16.gguf', folder / 'x.gguf')",
            "left 2 GGUF files where one was expected",
        ),
        ("(folder / 'Fake-5M-BF16.gguf').write_bytes(b'GGUF' * 9)", "Fake-5M-BF16.gguf"),
    ],
)
def test_a_converter_that_fails_is_reported_and_leaves_nothing(more, message, unknown, fake, place, run_command):
    done = run_command("convert", unknown, "out.gguf", "--converter", fake(more), cwd=place)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--converter", "nowhere"), 2, "nowhere does not exist; give a checkout of llama.cpp, or its convert_hf_to"),
        (("--converter", "CHECKOUT", "--converter-python", "no-python"), 4, "no-python: there is no such program"),
        (("--converter", "CHECKOUT", "--pre", "qwen2"), 2, "--pre does not go with --converter"),
        (("--converter", "CHECKOUT", "--dry-run"), 2, "--dry-run does not go with --converter"),
    ],
)
def test_what_cannot_be_is_refused_before_it_runs(options, code, message, unknown, fake, place, run_command):
    checkout = str(fake("raise SystemExit('it ran')"))
    done = run_command("convert", unknown, *(checkout if one == "CHECKOUT" else one for one in options), cwd=place)
    assert (done.returncode, len(done.stderr.splitlines())) == (code, 1)
    assert message in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="interrupts are sent by POSIX signals")
def test_an_interrupt_and_a_kill_leave_nothing_that_stays(unknown, fake, place, run_command):
    command = [sys.executable, "-m", "toolkit", "convert", str(unknown), "out.gguf", "--converter"]
    for number in (signal.SIGTERM, signal.SIGKILL):
        waiting = [*command, str(fake("print('waiting', flush=True); time.sleep(9)"))]
        with subprocess.Popen(waiting, cwd=place, stderr=subprocess.PIPE, encoding="utf-8") as process:
            assert any("converter: waiting" in line for line in process.stderr)
            process.send_signal(number)
            process.communicate()
        if number == signal.SIGTERM:
            assert process.returncode == 143
            assert list(place.iterdir()) == []
    assert [path.suffix for path in place.iterdir()] == [".part"]
    assert run_command("convert", unknown, "out.gguf", "--converter", fake(), cwd=place).returncode == 0
    assert [path.name for path in place.iterdir()] == ["out.gguf"]
