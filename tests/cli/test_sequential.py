"""`convert --sequential` from a text to a file, and what it refuses."""

import json

import pytest


def test_a_file_is_calibrated_in_sequence_and_nothing_is_left_beside_it(run_command, tmp_path):
    output = tmp_path / "m.gguf"
    words = ("-p", "q2_k", "--rounding", "calibrated", "--sequential", "--text", "demo", "--chunks", "5")
    done = run_command("convert", "demo", output, *words)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["m.gguf"]
    checked = run_command("verify", output, "--source", "demo", "--no-run")
    assert checked.returncode == 0, checked.stdout
    stock, base = tmp_path / "stock.gguf", tmp_path / "base.gguf"
    run_command("convert", "demo", stock, "-p", "q2_k")
    run_command("convert", "demo", base, "-p", "bf16")
    measured = [run_command("kld", path, "--base", base, "--chunks", "5", "--json") for path in (output, stock)]
    calibrated, plain = (json.loads(done.stdout)["mean_kld"] for done in measured)
    assert calibrated < 0.8 * plain


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--sequential",), "--sequential goes with --rounding calibrated and --text FILE"),
        (("--rounding", "calibrated", "--text", "demo"), "--sequential goes with --rounding calibrated"),
        (
            ("--rounding", "calibrated", "--sequential", "--text", "demo", "--split-max-tensors", "9"),
            "--sequential writes one file",
        ),
    ],
)
def test_what_contradicts_itself_is_refused(words, message, run_command, tmp_path):
    done = run_command("convert", "demo", tmp_path / "m.gguf", *words)
    assert (done.returncode, list(tmp_path.iterdir())) == (2, [])
    assert message in done.stderr
