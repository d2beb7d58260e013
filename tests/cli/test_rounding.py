"""Calibrated rounding as a user runs it: moments of a text, and a file of the same size that is closer to its source."""

import json

import pytest
from demo_model import FIXED_TEXT
from tiny_model import TinyShape, write_tiny_model

from toolkit.importance.moments import open_moments

QUICK = ("--text", FIXED_TEXT, "--ctx", "64", "--threads", "1")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("model") / "m.gguf", TinyShape(n_layer=1, n_embd=256, n_ff=256))


@pytest.fixture
def moments(model, run_command, tmp_path):
    path = tmp_path / "moments.gguf"
    done = run_command("imatrix", model, *QUICK, "--moments", "-o", path, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["chunks"], document["datasets"]) == (15, ["LICENSE"])
    return path


def test_a_calibrated_file_has_the_size_of_the_stock_one_and_less_divergence(model, moments, run_command, tmp_path):
    divergence, sizes = {}, {}
    for rounding in ("ggml", "calibrated"):
        output = tmp_path / f"{rounding}.gguf"
        options = ("--rounding", rounding, "--moments", moments) if rounding == "calibrated" else ()
        done = run_command("quantize", model, output, "-p", "q3_k_m", *options, "--json")
        assert done.returncode == 0, done.stderr
        sizes[rounding] = [(tensor["type"], tensor["bytes"]) for tensor in json.loads(done.stdout)["tensors"]]
        done = run_command("kld", output, "--base", model, *QUICK, "--json")
        divergence[rounding] = json.loads(done.stdout)["mean_kld"]
        verified = run_command("verify", output, "--source", model)
        assert verified.returncode == 0, verified.stdout + verified.stderr
    assert sizes["ggml"] == sizes["calibrated"]
    assert divergence["calibrated"] < 0.7 * divergence["ggml"]


def test_the_number_of_threads_changes_no_byte(model, moments, run_command, tmp_path):
    files = [tmp_path / f"{threads}.gguf" for threads in (1, 2)]
    for threads, output in zip(("1", "2"), files, strict=True):
        options = ("--rounding", "calibrated", "--moments", moments, "--threads", threads)
        done = run_command("quantize", model, output, "-p", "q4_k_m", *options)
        assert done.returncode == 0, done.stderr
    assert files[0].read_bytes() == files[1].read_bytes()


def test_moments_of_two_texts_are_merged(moments, run_command, tmp_path):
    done = run_command("imatrix", "merge", moments, moments, "-o", tmp_path / "both.gguf")
    assert done.returncode == 0, done.stderr
    assert "second moments of 5 inputs" in done.stderr
    assert open_moments(tmp_path / "both.gguf").datasets == ("LICENSE", "LICENSE")
    refused = run_command("imatrix", "show", moments)
    assert refused.returncode == 2


@pytest.mark.parametrize("options", [("--rounding", "calibrated"), ("--moments", "m")])
def test_rounding_and_moments_go_together(model, options, run_command, tmp_path):
    output = tmp_path / "q.gguf"
    given = (options[0], model) if options[0] == "--moments" else options
    done = run_command("quantize", model, output, "-p", "q4_k_m", *given)
    assert done.returncode == 2
    assert "--rounding calibrated needs --moments FILE" in done.stderr
    assert not output.exists()


def test_moments_of_another_model_are_refused(moments, run_command, tmp_path):
    other = write_tiny_model(tmp_path / "other.gguf", TinyShape(n_layer=2, n_embd=512, n_ff=256))
    done = run_command("quantize", other, tmp_path / "q.gguf", "--rounding", "calibrated", "--moments", moments)
    assert done.returncode == 2
    assert "belong" in done.stderr
    assert not (tmp_path / "q.gguf").exists()
