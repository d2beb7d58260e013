"""The imatrix commands as a user runs them."""

import json
import re

import pytest
from demo_model import FIXED_TEXT, GOLDEN, convert_demo
from tiny_model import TinyShape, write_tiny_model

QUICK = ("--text", FIXED_TEXT, "--ctx", "64", "--threads", "1")


def test_a_matrix_is_collected_and_quantize_takes_it(run_command, tmp_path):
    model, matrix = convert_demo(tmp_path, "bf16"), tmp_path / "m.imatrix"
    done = run_command("imatrix", model, *QUICK, "-o", matrix, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["n_tensors"], found["chunks"], found["chunk_size"], found["datasets"]) == (56, 9, 64, ["LICENSE"])
    done = run_command("quantize", model, tmp_path / "q.gguf", "--profile", "iq2_xs", "--imatrix", matrix)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "q.gguf").stat().st_size < model.stat().st_size / 3


def test_options_may_come_before_the_file(run_command, tmp_path):
    model = write_tiny_model(tmp_path / "m.gguf", TinyShape(n_embd=64, n_ff=96))
    done = run_command("imatrix", "-o", tmp_path / "m.imatrix", *QUICK, "--chunks", "1", model)
    assert done.returncode == 0, done.stderr
    assert "1 chunks of 64 tokens of LICENSE" in done.stderr


def test_a_matrix_is_shown_with_what_matters_most(run_command):
    done = run_command("imatrix", "show", GOLDEN / "tiny_moe.imatrix")
    assert "16 tensors, 15 chunks of 64 tokens of LICENSE" in done.stdout
    assert "8 of 8" in done.stdout
    document = json.loads(run_command("imatrix", "show", GOLDEN / "tiny_moe.imatrix", "--json").stdout)
    assert document["unseen_experts"] == 0
    totals = {tensor["name"]: tensor["total"] for tensor in document["tensors"]}
    assert max(totals, key=totals.get) in ("blk.1.ffn_gate_exps.weight", "blk.1.ffn_up_exps.weight")


def test_a_matrix_merged_with_itself_has_twice_the_chunks(run_command, tmp_path):
    golden, output = GOLDEN / "demo.imatrix", tmp_path / "both"
    done = run_command("imatrix", "merge", golden, golden, "-o", output, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["chunks"] == 18
    assert "exists" in run_command("imatrix", "merge", golden, "-o", output).stderr


def test_layers_are_shown_by_what_flows_through_them(run_command):
    layers = json.loads(run_command("imatrix", "show", GOLDEN / "tiny_moe.imatrix", "--json").stdout)["layers"]
    assert [layer["layer"] for layer in layers] == [0, 1]
    assert sum(layer["share"] for layer in layers) == pytest.approx(1)
    shown = run_command("imatrix", "show", GOLDEN / "tiny_moe.imatrix").stdout
    assert f"{max(layers, key=lambda layer: layer['share'])['share']:.1%}" in shown


def test_a_block_that_a_text_does_not_run_through_is_refused_with_the_option_that_helps(
    run_command, converted, tmp_path
):
    # The last block predicts tokens ahead: a file has it, and reading a text never uses it.
    model, matrix, output = converted("glm4_moe", "bf16"), tmp_path / "m.imatrix", tmp_path / "q.gguf"
    assert run_command("imatrix", model, *QUICK, "-o", matrix).returncode == 0
    shown = run_command("imatrix", "show", matrix, "--model", model)
    assert "13 tensors without importance: blk.2.attn_q.weight" in shown.stdout
    arguments = ("quantize", model, output, "--profile", "iq2_xs", "--imatrix", matrix)
    done = run_command(*arguments)
    assert done.returncode == 2
    assert "blk.2.nextn.eh_proj.weight is to be stored as IQ2_XS" in done.stderr
    assert not output.exists()
    [advised] = re.findall(r"--tensor-type '([^']+)'", done.stderr)
    assert run_command(*arguments, "--tensor-type", advised).returncode == 0


def test_a_profile_that_needs_a_matrix_says_how_to_make_one(run_command, tmp_path):
    model = convert_demo(tmp_path, "bf16")
    done = run_command("quantize", model, tmp_path / "q.gguf", "--profile", "iq2_xs")
    assert done.returncode == 2
    assert "make one with `gguf-toolkit imatrix MODEL.gguf" in done.stderr


def test_a_matrix_is_known_by_its_content_whatever_its_name(run_command, tmp_path):
    model, matrix = convert_demo(tmp_path, "bf16"), tmp_path / "x.dat"
    matrix.write_bytes((GOLDEN / "demo.imatrix").read_bytes())
    done = run_command("quantize", model, tmp_path / "q.gguf", "--profile", "iq2_xs", "--imatrix", matrix, "--dry-run")
    assert done.returncode == 0, done.stderr
    shown = run_command("imatrix", "show", matrix, "--model", model).stdout
    assert "every tensor of demo-bf16.gguf that needs importance has it" in shown


def test_a_matrix_of_a_model_of_another_width_is_refused_by_a_tensors_name(run_command, tmp_path):
    model = convert_demo(tmp_path, "bf16")
    other = ("--profile", "q4_k_m", "--imatrix", GOLDEN / "tiny_moe.imatrix")
    done = run_command("quantize", model, tmp_path / "q.gguf", *other)
    assert done.returncode == 2
    assert "has 64 values, but the tensor needs 256; the importance matrix belongs to another model" in done.stderr
    assert not (tmp_path / "q.gguf").exists()


def test_experts_that_saw_nothing_are_warned_of(run_command, tmp_path):
    from tiny_moe import write_tiny_moe

    text = tmp_path / "short.txt"
    text.write_text("a" * 40, encoding="utf-8")
    model = write_tiny_moe(tmp_path / "m.gguf")
    done = run_command("imatrix", model, "--text", text, "--ctx", "16", "-o", tmp_path / "m", "--chunks", "1")
    assert done.returncode == 0, done.stderr
    assert "saw no token" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", FIXED_TEXT), "neither GGUF nor a legacy importance matrix"),
        (("show", "/nowhere"), "cannot be read"),
        (("merge", GOLDEN / "demo.imatrix", GOLDEN / "tiny_moe.imatrix", "-o", "/tmp/none"), "different models"),
        (("model.gguf",), "Missing option '--output'"),
    ],
)
def test_bad_input_is_refused(run_command, arguments, message):
    done = run_command("imatrix", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_the_text_that_is_taken_where_none_is_named_is_said(run_command, tmp_path):
    model = write_tiny_model(tmp_path / "m.gguf", TinyShape(n_embd=64, n_ff=96))
    words = ("imatrix", model, "--ctx", "64", "--chunks", "1", "--threads", "1", "-o")
    said = (
        "warning: the text is Python's manual, good for trying out; give --text FILE of the kind that the model is for"
    )
    assert said in run_command(*words, tmp_path / "a").stderr.splitlines()
    assert said not in run_command(*words, tmp_path / "b", "--text", "demo").stderr.splitlines()
