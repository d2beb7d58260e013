"""`convert --sequential` from a text to a file, and what it refuses."""

import pytest


def test_a_file_is_calibrated_in_sequence_and_nothing_is_left_beside_it(run_command, tmp_path):
    output = tmp_path / "m.gguf"
    words = ("-p", "q2_k", "--rounding", "calibrated", "--sequential", "--text", "demo", "--chunks", "5")
    done = run_command("convert", "demo", output, *words)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["m.gguf"]
    checked = run_command("verify", output, "--source", "demo", "--no-run")
    assert checked.returncode == 0, checked.stdout


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
