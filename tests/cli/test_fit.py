"""The main job through the real command, on the embedded checkpoint."""

import json
import math
import os
import subprocess
import sys

import pytest
from demo_model import FIXED_TEXT
from editable_checkpoint import edit_case
from loopback_device import free_port, loopback_device

from toolkit.llama.devices import LOOPBACK
from toolkit.llama.ggml_devices import offload_devices

TINY = ("--ctx", "128", "--text", FIXED_TEXT, "--chunks", "2", "--repetitions", "1", "--max-ppl-increase", "50")
BRIEFLY = ("--ctx", "512", "--chunks", "4", "--repetitions", "1")


def fit(run_command, folder, *options):
    done = run_command("fit", "demo", "--out", folder, *BRIEFLY, "--json", *options)
    return done, json.loads(done.stdout) if done.returncode == 0 else None


def test_a_file_that_fits_is_made_loaded_and_measured(run_command, tmp_path):
    done, report = fit(run_command, tmp_path, "--vram", "12MiB")
    assert done.returncode == 0, done.stderr
    output = tmp_path / "Demo-5.2M-Q8_0.gguf"
    assert report["output"] == str(output)
    assert output.stat().st_size == report["file_bytes"]
    assert [path.name for path in tmp_path.iterdir()] == [output.name]
    chosen = report["choices"][0]
    assert (chosen["profile"], chosen["n_gpu_layers"], chosen["fits"]) == ("Q8_0", 9, True)
    on_gpu = [device for device in chosen["devices"] if device["budget_bytes"] == 12 << 20]
    total = sum(on_gpu[0][key] for key in ("weights_bytes", "kv_cache_bytes", "compute_bytes"))
    assert total == report["allocated_bytes"] == report["predicted_bytes"] <= 12 << 20
    assert abs(report["perplexity_increase"]) < 0.01
    alone = run_command("perplexity", output, "--chunks", "4", "--kv", chosen["kv_type_k"], "--json")
    assert report["perplexity"] == pytest.approx(json.loads(alone.stdout)["perplexity"], rel=1e-4)
    assert report["generation_tokens_per_second"] > 0
    assert report["llama_server"].split()[:3] == ["llama-server", "-m", str(output)]
    assert report["measured_on"] in ("CPU", "GPU")


def test_where_no_four_bits_fit_whole_q4_k_m_is_split(run_command, tmp_path):
    _, report = fit(run_command, tmp_path, "--vram", "8MiB", "--use", "general")
    chosen = report["choices"][0]
    assert chosen["profile"] == "Q4_K_M"
    assert 0 < chosen["n_gpu_layers"] < 9
    verdict = report["verdict"]
    assert (verdict["use"], verdict["level"]) == ("general", "good")
    assert f"mean KLD {report['mean_kld']:.3g}" in verdict["sentence"]
    assert 0.9 < report["same_top_fraction"] < 1


def test_what_is_not_advised_for_its_use_fails_with_1_and_leaves_nothing(run_command, tmp_path):
    done, _ = fit(run_command, tmp_path, "--vram", "12MiB", "--use", "general", "--profile", "q2_k")
    assert done.returncode == 1
    assert "Q2_K, the heaviest profile that fits, is not advised for general text: mean KLD" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("weight", "value", "code", "message"),
    [
        ("model.layers.0.self_attn.q_proj.weight", math.nan, 2, "blk.0.attn_q.weight holds 1 NaN"),
        ("model.norm.weight", 3e38, 1, "logits are not finite, so there is no perplexity"),
    ],
)
def test_nothing_is_decided_on_numbers_that_are_none(weight, value, code, message, run_command, tmp_path):
    checkpoint, folder = edit_case("llama_f32", tmp_path), tmp_path / "out"
    dtype, rows = checkpoint.tensors[weight]
    checkpoint.tensors[weight] = (dtype, rows.copy())
    checkpoint.tensors[weight][1].flat[0] = value
    folder.mkdir()
    done = run_command("fit", checkpoint.save(), "--out", folder, "--vram", "64MiB", *TINY)
    assert done.returncode == code, done.stderr
    assert message in done.stderr.splitlines()[-1]
    assert done.stdout == ""
    assert list(folder.iterdir()) == []


def test_too_much_loss_backs_off_to_a_heavier_profile_and_says_so(run_command, tmp_path):
    done, report = fit(
        run_command, tmp_path, "--vram", "8MiB", "--margin", "0", "--prefer", "speed", "--max-ppl-increase", "2"
    )
    rejected = [entry["profile"] for entry in report["rejected"]]
    assert rejected
    assert all(entry["perplexity_increase"] > 0.02 for entry in report["rejected"])
    assert "backing off to" in done.stderr
    assert report["perplexity_increase"] <= 0.02
    assert [path.name for path in tmp_path.iterdir()] == [report["output"].rpartition("/")[2]]


def test_when_even_the_heaviest_profile_loses_too_much_it_fails_with_1(run_command, tmp_path):
    done, report = fit(run_command, tmp_path, "--vram", "64MiB", "--max-ppl-increase", "0")
    if done.returncode == 0:  # on this text, rounding to 8 bits happened to help
        assert report["perplexity_increase"] <= 0
        return
    assert done.returncode == 1
    assert "Q8_0, the heaviest profile that fits, raises the perplexity by" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_fits_nowhere_stops_with_3_and_leaves_nothing(run_command, tmp_path):
    done, _ = fit(run_command, tmp_path, "--vram", "1MiB")
    assert done.returncode == 3
    assert "error: nothing fits 1.00 MiB of VRAM at a context of 512" in done.stderr
    assert "the first layer of Q4_K_M lacks" in done.stderr
    assert "give more --vram or a shorter --ctx" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_report_for_people_names_the_flags_and_who_measured(run_command, tmp_path):
    done = run_command("fit", "demo", "--vram", "12MiB", *BRIEFLY, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    for words in (
        "whole on the GPU",
        "as predicted to the byte",
        "perplexity",
        "tokens/s",
        "llama-server -m",
        "llama_cpp.Llama(",
    ):
        assert words in done.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--vram", "lots"), "'lots' is not a size; write it as 8GiB, 8G or 8192MiB"),
        (("--vram", "8MiB", "--ctx", "-1"), "'-1' is not a number of tokens"),
        (("--vram", "8MiB", "--text", "/nowhere.txt"), "/nowhere.txt"),
        (("--vram", "8MiB", "--use", "poetry"), "--use 'poetry' is not one of chat, general, code"),
        (("--vram", "8MiB", "--use", "code"), "is judged on text of its kind; give a sample of it with --text FILE"),
        (("--vram", "8MiB", "--ctx", "1k", "--use", "long", "--text", FIXED_TEXT), "in chunks of 4,096 tokens"),
        (("--vram", "8MiB", "--kv", "q9"), "KV type 'q9' is not one of"),
        (("--vram", "8MiB", "--rpc", "8.8.8.8:50052"), "not a private address"),
    ],
)
def test_impossible_requests_are_refused_with_2(options, message, run_command, tmp_path):
    done = run_command("fit", "demo", "--out", tmp_path, *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_text_too_short_to_measure_is_refused(run_command, tmp_path):
    (tmp_path / "short.txt").write_text("Hello.")
    done = run_command(
        "fit", "demo", "--vram", "12MiB", "--ctx", "512", "--text", tmp_path / "short.txt", "--out", tmp_path / "m.gguf"
    )
    assert done.returncode == 2
    assert "tokens, but chunks of" in done.stderr


def test_a_context_beyond_the_trained_one_is_warned_of_and_goes_on(run_command, tmp_path):
    done = run_command("fit", "demo", "--vram", "64MiB", *BRIEFLY, "--ctx", "2k", "--out", tmp_path)
    assert done.returncode == 0
    assert "--ctx 2,048 is beyond the 1,024 tokens that the model was trained for" in done.stderr


def test_of_a_mixture_the_experts_stay_on_the_cpu_first(run_command, kit_checkpoint, tmp_path):
    words = ("--vram", "2300KiB", "--margin", "0", "--profile", "q8_0", "--kv", "f16")
    done = run_command("fit", kit_checkpoint("qwen3_moe"), *words, *TINY, "--out", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    chosen = report["choices"][0]
    assert chosen["n_gpu_layers"] == chosen["n_layers"]
    assert chosen["tensor_buft_overrides"]
    assert "-ncmoe" in report["llama_server"] or "-ot" in report["llama_server"]
    assert 0 < report["allocated_bytes"] == report["predicted_bytes"] <= 2300 << 10


def test_two_servers_share_the_layers_and_measure_what_was_planned(run_command, kit_checkpoint, tmp_path):
    with loopback_device() as one, loopback_device() as other:
        rpc = ("--rpc", one, "--rpc", other, "--vram", "2450KiB,2450KiB", "--margin", "0", "--kv", "f16")
        done = run_command("fit", kit_checkpoint("llama3"), *rpc, *TINY, "-p", "q8_0", "--out", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["measured_on"] == "GPU"
    assert len(report["devices"]) == 2
    for device in report["devices"]:
        assert 0 < device["allocated_bytes"] <= device["predicted_bytes"] <= 2450 << 10
    assert f"--rpc {one},{other}" in report["llama_server"]


def test_a_server_that_is_down_is_named_and_stops_the_fit_where_it_is_required(run_command, tmp_path):
    endpoint = f"{LOOPBACK}:{free_port()}"
    done, _ = fit(run_command, tmp_path, "--vram", "12MiB", "--rpc", endpoint, "--rpc-required")
    assert done.returncode == 4
    assert f"error: no RPC server answers at {endpoint}" in done.stderr


def test_a_gpu_that_is_not_here_cannot_be_measured_on_beside_a_server(run_command, tmp_path):
    with loopback_device() as endpoint:
        done, _ = fit(run_command, tmp_path, "--vram", "12MiB,12MiB", "--rpc", endpoint)
    if offload_devices():
        assert done.returncode in (0, 3)
        return
    assert done.returncode == 2
    assert "--vram has sizes for 1 GPUs beside the servers, and llama-cpp-python sees 0 here" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="a kill is a signal of POSIX")
def test_a_file_has_no_name_before_it_is_proven_and_what_a_killed_fit_left_goes_with_the_next_command(
    run_command, tmp_path
):
    out, temporary = tmp_path / "out", tmp_path / "temporary"
    out.mkdir()
    temporary.mkdir()
    environment = os.environ | {"TMPDIR": str(temporary)}
    command = [sys.executable, "-m", "toolkit", "fit", "demo", "--out", str(out), *BRIEFLY, "--vram", "12MiB"]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment
    ) as run:
        assert any("measuring Demo-5.2M-Q8_0.gguf" in line for line in run.stderr)
        run.kill()
    assert [path.name.startswith(".gguf-toolkit-") for path in out.iterdir()] == [True]
    assert [path.name.startswith("gguf-toolkit-") for path in temporary.iterdir()] == [True]
    assert run_command("convert", "demo", out / "m.gguf", env=environment).returncode == 0
    assert run_command("plan", "demo", "--vram", "12MiB", env=environment).returncode == 0
    assert [path.name for path in out.iterdir()] == ["m.gguf"]
    assert list(temporary.iterdir()) == []
