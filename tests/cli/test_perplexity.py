"""The perplexity command as a user runs it."""

import json
import re

import pytest
from demo_model import FIXED_TEXT, convert_demo
from llama_tools import llama_tool
from tiny_model import TinyShape, write_tiny_model
from tool_prints import is_close

from toolkit.measures.logits_file import read_logits

SMALL = ("--ctx", "64", "--text", FIXED_TEXT, "--threads", "1")


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return convert_demo(tmp_path_factory.mktemp("demo"), "bf16")


def test_it_is_llama_perplexitys_number_to_every_digit(run_command, tool_print, demo):
    made_here = llama_tool("perplexity", demo, FIXED_TEXT, "-c", 64)
    expected = re.search(r"Final estimate: PPL = ([\d.]+) \+/- ([\d.]+)", made_here).groups()
    done = run_command("perplexity", demo, *SMALL, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    value, error = found["perplexity"], found["standard_error"]
    assert is_close(value, expected[0], nat=value)
    assert is_close(error, expected[1], nat=value)
    assert (found["tokens"], found["chunks"], found["n_ctx_seq"], found["text"]) == (279, 9, 64, "LICENSE")
    assert len(found["chunk_nlls"]) == 9
    assert done.stderr == ""
    assert not tool_print("demo_perplexity", made_here) or expected == (f"{value:.4f}", f"{error:.5f}")


def test_with_a_stride_it_is_llama_perplexitys_strided_number(run_command, tool_print, demo):
    made_here = llama_tool("perplexity", demo, FIXED_TEXT, "-c", 128, "--stride", 64)
    options = ("--text", FIXED_TEXT, "--threads", "1", "--ctx", "128", "--stride", "64", "--json")
    found = json.loads(run_command("perplexity", demo, *options).stdout)
    value, expected = found["perplexity"], re.findall(r"\[\d+\]([\d.]+),", made_here)[-1]
    assert is_close(value, expected, nat=value)
    assert (found["n_ctx_seq"], found["stride"], found["chunks"], found["tokens"]) == (256, 64, 6, 384)
    assert not tool_print("demo_strided", made_here) or expected == f"{value:.4f}"


def test_logits_of_overlapping_chunks_are_not_kept(run_command, demo, tmp_path):
    done = run_command("perplexity", demo, *SMALL, "--stride", "16", "--save-logits", tmp_path / "l")
    assert done.returncode == 2
    assert "keeps chunks that do not overlap" in done.stderr


def test_people_read_one_line(run_command, demo):
    done = run_command("perplexity", demo, *SMALL, "--chunks", "2")
    assert done.stdout.startswith("perplexity ")
    assert " tokens in 2 chunks of 64 (LICENSE)" in done.stdout
    assert done.stdout.count("\n") == 1


def test_the_logits_can_be_kept_and_are_not_replaced_unasked(run_command, demo, tmp_path):
    arguments = ("perplexity", demo, *SMALL, "--chunks", "2", "--save-logits", tmp_path / "l")
    assert run_command(*arguments).returncode == 0
    assert read_logits(tmp_path / "l").chunks.count == 2
    assert "exists" in run_command(*arguments).stderr
    assert run_command(*arguments, "--force").returncode == 0


def test_a_text_too_short_says_what_would_do(run_command, demo):
    done = run_command("perplexity", demo, "--text", FIXED_TEXT)
    assert done.returncode == 2
    assert "(two chunks); the largest usable chunk is" in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--kv", "q3_k"), "KV type 'q3_k' is not one of f32, f16"),
        (("--text", "/nowhere.txt"), "/nowhere.txt cannot be read"),
        (("--ctx", "-5"), "'-5' is not a number of tokens"),
    ],
)
def test_impossible_requests_are_refused(run_command, demo, options, message):
    done = run_command("perplexity", demo, *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_quantized_cache_is_measured_too(run_command, demo):
    plain, eight = (
        json.loads(run_command("perplexity", demo, *SMALL, "--kv", kv, "--json").stdout)["perplexity"]
        for kv in ("f16", "q8_0/f16")
    )
    assert plain != eight
    assert eight == pytest.approx(plain, rel=0.02)


def test_nan_ends_with_1_and_null_and_the_name_of_the_weights(run_command, tmp_path):
    model = write_tiny_model(tmp_path / "m.gguf", TinyShape(), bad_tensor="blk.1.attn_v.weight")
    done = run_command("perplexity", model, *SMALL, "--json")
    assert done.returncode == 1
    assert "chunk 1 of" in done.stderr
    assert "suspected: m.gguf: blk.1.attn_v.weight" in done.stderr
    found = json.loads(done.stdout)
    assert found["perplexity"] is found["standard_error"] is None
    assert found["suspected_tensors"] == ["m.gguf: blk.1.attn_v.weight"]


def test_a_chunk_beyond_the_trained_context_is_warned_of(run_command, tmp_path):
    model = write_tiny_model(tmp_path / "m.gguf", TinyShape(n_ctx_train=32))
    done = run_command("perplexity", model, *SMALL, "--chunks", "1")
    assert "warning: m.gguf was trained for 32 tokens, fewer than the 64 measured" in done.stderr
