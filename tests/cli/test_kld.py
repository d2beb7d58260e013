"""The kld command as a user runs it."""

import json
import re
import subprocess
import sys

import pytest
from bench_measure import STATISTICS, printed_statistics
from demo_model import FIXED_TEXT, convert_demo
from llama_tools import llama_tool
from tiny_model import write_tiny_model
from tool_prints import is_close

SMALL = ("--ctx", "64", "--text", FIXED_TEXT, "--threads", "1")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    return {profile: convert_demo(folder, profile) for profile in ("bf16", "q8_0", "q4_k_m", "q3_k_m", "q2_k")}


@pytest.fixture(scope="module")
def base_logits(models, tmp_path_factory):
    path = tmp_path_factory.mktemp("logits") / "base.logits"
    command = [sys.executable, "-m", "toolkit", "perplexity", models["bf16"], *SMALL, "--save-logits", path]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    return path


@pytest.fixture(scope="module")
def made_here(models, tmp_path_factory):
    """What llama-perplexity prints on this machine of the divergence of q4_k_m from bf16."""
    logits = tmp_path_factory.mktemp("made_here") / "base.logits"
    llama_tool("perplexity", models["bf16"], FIXED_TEXT, "-c", 64, "--logits", logits)
    return llama_tool("divergence", models["q4_k_m"], logits)


def nat_in(key, value):
    """Return what a nat weighs in a statistic: a perplexity grows by as much as it is, a percentage has 100 parts."""
    if "perplexity" in key and "ratio" not in key:
        return 2 * abs(value) + 100
    return 2 * next(scale for name, _, scale, _ in STATISTICS if name == key.removesuffix("_error"))


def test_every_statistic_is_llama_perplexitys(run_command, tool_print, models, made_here):
    done = run_command("kld", models["q4_k_m"], "--base", models["bf16"], *SMALL, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    pairs = list(printed_statistics(found, made_here))
    assert len(pairs) == 43
    for key, mine, theirs in pairs:
        assert is_close(mine, theirs, nat_in(key, float(mine))), (key, mine, theirs)
    assert found["tokens"] == 279
    assert 0 < found["base_rounding"] < 1.3e-4
    known = tool_print("demo_divergence", made_here)
    assert not known or [(key, mine) for key, mine, _ in pairs] == [(key, theirs) for key, _, theirs in pairs]


def test_people_read_every_statistic_with_its_error_and_what_the_storage_allows(run_command, models, made_here):
    lines = run_command("kld", models["q4_k_m"], "--base", models["bf16"], *SMALL).stdout.splitlines()
    expected = {line[:10].strip(): re.findall(r"-?\d+\.\d+", line[10:]) for line in made_here.splitlines()}
    printed = {line[:23].strip(): re.findall(r"-?\d+\.\d+", line[23:]) for line in lines[:-1]}
    names = ["PPL", "PPL of the base", "PPL / PPL of the base", "ln of that", "KLD mean", "KLD maximum"]
    assert list(printed) == [
        *names,
        *("KLD 99.9 %", "KLD 99 %", "KLD 95 %", "KLD 90 %", "KLD median", "Δp mean", "Δp RMS", "same top token"),
    ]
    for name, words, nat in (("KLD mean", "Mean    KL", 2), ("same top token", "Same top p", 0)):
        assert all(map(is_close, printed[name], expected[words], (nat, nat))), name
    assert "279 tokens in 9 chunks of 64" in lines[-1]
    assert re.search(r"stored in 16 bits, exact to \d\.\de-0\d, so that a model's divergence from itself", lines[-1])


def test_a_file_of_logits_gives_the_same_numbers_as_lockstep(run_command, models, base_logits, tmp_path):
    saved = tmp_path / "again.logits"
    arguments = ("kld", models["q4_k_m"], "--json", *SMALL)
    live = json.loads(run_command(*arguments, "--base", models["bf16"], "--save-logits", saved).stdout)
    assert saved.read_bytes() == base_logits.read_bytes()
    kept = json.loads(run_command("kld", models["q4_k_m"], "--base-logits", saved, "--threads", "1", "--json").stdout)
    for key in ("mean_kld", "p99_kld", "same_top_fraction", "perplexity_ratio", "tokens"):
        assert kept[key] == live[key]


def test_people_read_a_table_and_the_floor(run_command, models, base_logits):
    done = run_command("kld", models["q4_k_m"], "--base-logits", base_logits, "--threads", "1")
    for words in ("PPL / PPL of the base", "KLD 99.9 %", "Δp RMS", "same top token", "not exactly 0"):
        assert words in done.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--ctx", "32"), "its n_ctx is 64, but --ctx is 32"),
        (("--text", __file__), "its (token [0-9]+|text) is"),
    ],
)
def test_a_file_of_other_chunks_or_text_is_refused(run_command, models, base_logits, options, message):
    done = run_command("kld", models["q4_k_m"], "--base-logits", base_logits, *options)
    assert done.returncode == 2
    assert re.search(message, done.stderr)


def test_a_model_of_another_vocabulary_is_refused(run_command, models, base_logits, tmp_path):
    tiny = write_tiny_model(tmp_path / "m.gguf")
    done = run_command("kld", tiny, "--base", models["bf16"], *SMALL)
    assert done.returncode == 2
    assert "the vocabularies differ: 297 tokens, and 2,048 of the base" in done.stderr
    done = run_command("kld", tiny, "--base-logits", base_logits)
    assert "its vocabulary is 2,048 tokens, but the model's has 297" in done.stderr


def test_a_base_is_needed_and_only_one(run_command, models):
    done = run_command("kld", models["q4_k_m"])
    assert done.returncode == 2
    assert "give either --base BASE.gguf or --base-logits FILE" in done.stderr


def test_nan_in_the_base_ends_with_1_and_its_name(run_command, tmp_path):
    good = write_tiny_model(tmp_path / "good.gguf")
    bad = write_tiny_model(tmp_path / "bad.gguf", bad_tensor="output_norm.weight")
    done = run_command("kld", good, "--base", bad, *SMALL, "--json")
    assert done.returncode == 1
    assert "suspected: bad.gguf: output_norm.weight" in done.stderr
    assert json.loads(done.stdout)["mean_kld"] is None


SOON = ("--ctx", "8", "--text", FIXED_TEXT, "--threads", "1", "--until-decided")


def test_a_kept_threshold_is_settled_before_the_end_of_the_text(run_command, models):
    done = run_command("kld", models["q4_k_m"], "--base", models["bf16"], *SOON, "--max-kld", "0.1", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    verdict = found["verdict"]
    assert (verdict["holds"], verdict["outcome"], verdict["confidence"]) == (True, "passed", 0.95)
    assert verdict["chunks"] == found["chunks"] < verdict["chunks_available"] / 3
    [answer] = verdict["questions"]
    assert answer["low"] < answer["mean"] < answer["high"] <= answer["threshold"] == 0.1
    assert (answer["counted_from"], answer["counted_to"], answer["cut_chunks"]) == (0, 0.5, 0)
    assert abs(answer["cut_mean"]) < 1e-4


def test_a_threshold_that_is_missed_ends_with_1_and_the_numbers(run_command, models):
    done = run_command("kld", models["q4_k_m"], "--base", models["bf16"], *SOON, "--max-kld", "0.001")
    assert done.returncode == 1
    assert re.search(
        r"error: mean KLD 0\.\d+ is above the threshold of 0\.001000 \(decided with 95% confidence for the mean of this text, "
        r"mean KLD counted up to 0\.005 a chunk, after \d+ of \d+ chunks\)",
        done.stderr,
    )
    assert "KLD mean" in done.stdout


def test_without_until_decided_all_of_the_text_is_measured(run_command, models):
    done = run_command(
        "kld", models["q4_k_m"], "--base", models["bf16"], *SMALL, "--max-ppl-increase", "3", "--min-same-top", "80"
    )
    assert done.returncode == 0
    assert "all thresholds are kept" in done.stderr
    assert "(the mean of this text itself, after 9 of 9 chunks)" in done.stderr


def test_nothing_to_decide_is_refused(run_command, models):
    done = run_command("kld", models["q4_k_m"], "--base", models["bf16"], *SOON)
    assert done.returncode == 2
    assert "--until-decided needs something to decide: --max-kld" in done.stderr


@pytest.mark.parametrize(("profile", "outcome", "code"), [("q8_0", "passed", 0), ("q2_k", "failed", 1)])
def test_a_clear_answer_needs_less_than_a_third_of_a_real_text(run_command, models, profile, outcome, code):
    asked = ("--max-kld", "0.05", "--until-decided", "--ctx", "32", "--chunks", "80", "--json")
    done = run_command("kld", models[profile], "--base", models["bf16"], *asked)
    assert done.returncode == code, done.stderr
    found = json.loads(done.stdout)
    assert found["verdict"]["outcome"] == outcome
    assert found["verdict"]["chunks_available"] == 80
    assert found["chunks"] == found["verdict"]["chunks"] < 80 / 3
    whole = run_command("kld", models[profile], "--base", models["bf16"], "--ctx", "32", "--chunks", "80", "--json")
    assert (json.loads(whole.stdout)["mean_kld"] <= 0.05) == (outcome == "passed")


def test_which_of_two_files_is_closer_is_settled_on_their_differences(run_command, models):
    asked = ("--base", models["bf16"], "--ctx", "32", "--chunks", "80", "--until-decided")
    done = run_command("kld", models["q4_k_m"], "--against", models["q3_k_m"], *asked, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    verdict, [answer] = found["verdict"], found["verdict"]["questions"]
    assert answer["quantity"] == "mean KLD less that of demo-q3_k_m.gguf"
    assert verdict["outcome"] == "passed"
    assert verdict["chunks"] == found["chunks"] == found["against"]["chunks"] < 80 / 3
    assert answer["low"] < answer["mean"] < answer["high"] <= answer["threshold"] == 0
    assert answer["mean"] == pytest.approx(found["mean_kld"] - found["against"]["mean_kld"])


def test_a_file_that_diverges_more_than_the_other_ends_with_1_and_both_are_shown(run_command, models, base_logits):
    base = ("--base-logits", base_logits, "--threads", "1")
    done = run_command("kld", models["q3_k_m"], "--against", models["q4_k_m"], *base)
    assert done.returncode == 1
    alone = json.loads(run_command("kld", models["q4_k_m"], *base, "--json").stdout)
    numbers = [alone[key] for key in ("perplexity", "perplexity_standard_error", "mean_kld", "mean_kld_standard_error")]
    assert "demo-q4_k_m.gguf: PPL {:.6f} ± {:.6f}, KLD mean {:.6f} ± {:.6f}, ".format(*numbers) in done.stdout
    assert re.search(
        r"error: mean KLD less that of demo-q4_k_m\.gguf 0\.\d+ is above the threshold of 0\.0", done.stderr
    )


def test_an_8_bit_cache_costs_little_and_more_than_nothing(run_command, models):
    plain, eight = (
        json.loads(run_command("kld", models["bf16"], "--base", models["bf16"], *SMALL, "--kv", kv, "--json").stdout)
        for kv in ("f16", "q8_0")
    )
    assert abs(plain["mean_kld"]) < plain["base_rounding"] < 10 * eight["mean_kld"]
    assert eight["mean_kld"] < 0.01
    assert plain["same_top_fraction"] == 1
