"""The compare command as a user runs it, on the demo model and on tiny ones."""

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner
from demo_model import FIXED_TEXT, convert_demo
from tiny_model import TinyShape, write_tiny_model

from toolkit.cli import cli
from toolkit.errors import ToolkitError

SMALL = ("--chunk-size", "64", "--ctx", "512", "--threads", "1")
QUICK = (*SMALL, "--no-rates", "--vram", "0")
FIXED = ("--text", FIXED_TEXT)
TIMED = (*SMALL, *FIXED, "--vram", "12MiB", "-p", "16", "-n", "4", "-r", "2")
TEXT = "the art of war and an inner sea. " * 40


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return os.environ | {"GGUF_TOOLKIT_CACHE": str(tmp_path_factory.mktemp("cache"))}


@pytest.fixture(scope="module")
def outputs(cache, tmp_path_factory):
    """Compare four profiles of the demo model once, with everything that can be written."""
    folder = tmp_path_factory.mktemp("outputs")
    files = ("--report", folder / "r.html", "--csv", folder / "r.csv", "--markdown", folder / "r.md")
    command = [sys.executable, "-m", "toolkit", "compare", "demo", "--profiles", "q8_0,q5_k_m,q3_k_m,q2_k"]
    command += [*TIMED, "--keep", folder / "kept", *files, "--json"]
    done = subprocess.run(list(map(str, command)), capture_output=True, encoding="utf-8", check=False, env=cache)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout), done.stderr


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    return {profile: convert_demo(folder, profile) for profile in ("bf16", "q8_0", "q2_k")}


def test_perplexity_and_divergence_fall_in_the_expected_order(outputs):
    _, document, _ = outputs
    base, *rows = document["rows"]
    assert (base["name"], base["is_base"], base["mean_kld"]) == ("BF16", True, None)
    assert [row["name"] for row in rows] == ["Q8_0", "Q5_K_M", "Q3_K_M", "Q2_K"]
    assert all(one["mean_kld"] < other["mean_kld"] for one, other in pairwise(rows))
    assert all(one["p999_kld"] < other["p999_kld"] for one, other in pairwise(rows))
    assert all(one["same_top_fraction"] > other["same_top_fraction"] for one, other in pairwise(rows))
    assert base["perplexity"] < rows[-1]["perplexity"]
    assert rows[-2]["perplexity"] < rows[-1]["perplexity"]
    assert all(one["file_bytes"] > other["file_bytes"] for one, other in pairwise([base, *rows]))


def test_every_row_has_its_memory_for_the_budget_and_its_rates(outputs):
    _, document, _ = outputs
    for row in document["rows"]:
        assert row["fits"] is True
        [gpu] = [device for device in row["devices"] if not device["on_host"]]
        taken = gpu["weights_bytes"] + gpu["kv_cache_bytes"] + gpu["compute_bytes"]
        assert 0 < taken <= gpu["budget_bytes"] == 12 << 20
        assert row["prompt_tokens_per_second"] > 0
        assert row["generation_tokens_per_second"] > 0
    assert [row["n_gpu_layers"] for row in document["rows"][-2:]] == [9, 9]
    assert document["rows"][0]["n_gpu_layers"] < 9


def test_one_row_is_advised_and_the_text_is_named(outputs):
    _, document, _ = outputs
    [advised] = [row for row in document["rows"] if row["advised"]]
    assert advised["pareto"]
    assert document["advice"].startswith(f"Take {advised['name']}")
    [general] = [verdict for verdict in advised["verdicts"] if verdict["use"] == "general"]
    assert "LICENSE" in general["rests_on"]
    assert [verdict["level"] for verdict in advised["verdicts"]].count("unknown") == 5


def test_the_numbers_are_those_of_the_kld_command(outputs, demo, run_command):
    folder, document, _ = outputs
    row = document["rows"][-1]
    kept = Path(row["output"])
    assert kept == folder / "kept" / "Demo-5.2M-Q2_K.gguf"
    assert kept.stat().st_size == row["file_bytes"]
    done = run_command("kld", kept, "--base", demo["bf16"], "--ctx", "64", *FIXED, "--threads", "1", "--json")
    found = json.loads(done.stdout)
    for key in (
        "mean_kld",
        "median_kld",
        "p99_kld",
        "p999_kld",
        "max_kld",
        "same_top_fraction",
        "perplexity",
        "perplexity_ratio",
    ):
        assert row[key] == pytest.approx(found[key], rel=1e-12), key


def test_page_table_and_values_are_written_whole(outputs):
    folder, document, _ = outputs
    page = (folder / "r.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert document["advice"] in page
    lines = list(csv.DictReader((folder / "r.csv").read_text(encoding="utf-8").splitlines()))
    assert [float(line["mean_kld"]) for line in lines[1:]] == [row["mean_kld"] for row in document["rows"][1:]]
    table = [line for line in (folder / "r.md").read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    names = [line.split()[1].strip("*").replace("\\", "") for line in table]
    assert names == ["File", "BF16", "Q8_0", "Q5_K_M", "Q3_K_M", "Q2_K"]


def test_what_is_known_is_not_measured_again_though_files_are_made_to_be_kept(outputs, cache, run_command, tmp_path):
    folder, document, first = outputs
    assert "measuring Q8_0" in first
    assert sorted(path.name[10:-5] for path in (folder / "kept").iterdir()) == ["Q2_K", "Q3_K_M", "Q5_K_M", "Q8_0"]
    kept = ("--keep", tmp_path / "new")
    again = run_command("compare", "demo", "--profiles", "q8_0,q2_k", *TIMED, *kept, "--json", env=cache)
    assert "measuring" not in again.stderr
    assert "6 measurements are from an earlier run; --fresh measures anew" in again.stderr
    rows = json.loads(again.stdout)["rows"]
    assert [row["mean_kld"] for row in rows] == [document["rows"][place]["mean_kld"] for place in (0, 1, 4)]
    assert sorted(path.name[10:-5] for path in (tmp_path / "new").iterdir()) == ["Q2_K", "Q8_0"]


def test_a_run_that_is_stopped_goes_on_where_it_was(tmp_path):
    environment = os.environ | {"GGUF_TOOLKIT_CACHE": str(tmp_path / "cache"), "PYTHONUNBUFFERED": "1"}
    arguments = map(str, ("compare", "demo", "--profiles", "q8_0,q4_0", *QUICK, "--chunks", "8"))
    command = [sys.executable, "-m", "toolkit", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as run:
        seen = ""
        while "measuring Q4_0" not in seen:
            line = run.stderr.readline()
            assert line, seen
            seen += line
        run.send_signal(signal.SIGTERM)
        run.communicate(timeout=60)
    assert run.returncode == 143
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert "measuring Q8_0" not in done.stderr
    assert "measuring Q4_0" in done.stderr


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    write_tiny_model(folder / "good.gguf", TinyShape(n_ctx_train=32))
    write_tiny_model(folder / "bad.gguf", bad_tensor="output_norm.weight")
    return folder


def test_one_file_that_fails_or_has_another_vocabulary_does_not_lose_the_others(tiny, demo, run_command):
    files = (tiny / "good.gguf", tiny / "bad.gguf", demo["q8_0"])
    done = run_command("compare", *files, "--base", files[0], *QUICK, "--text", tiny / "text.txt", "--json")
    assert done.returncode == 1
    rows = {row["name"]: row for row in json.loads(done.stdout)["rows"]}
    assert rows["good"]["perplexity"] > 0
    assert "logits are not finite" in rows["bad"]["error"]
    assert rows["bad"]["error"].endswith("suspected: output_norm.weight")
    assert "bad failed, the others go on" in done.stderr
    strange = rows["demo-q8_0"]
    assert strange["perplexity"] > 0
    assert (strange["mean_kld"], strange["pareto"], strange["advised"]) == (None, False, False)
    assert strange["not_ranked_because"] == "it has another vocabulary, so its tokens are other questions"
    assert "the vocabularies differ" in strange["texts"][0]["not_comparable_because"]
    assert "beyond the 32 tokens that the model was trained for" in done.stderr


def test_an_8_bit_cache_is_a_row_of_its_own_with_what_it_costs_and_saves(demo, run_command):
    command = ("compare", demo["bf16"], *SMALL, *FIXED, "--vram", "64MiB", "--no-rates", "--kv", "f16,q8_0", "--json")
    done = run_command(*command)
    assert done.returncode == 0, done.stderr
    f16, q8_0 = json.loads(done.stdout)["rows"]
    assert (f16["is_base"], q8_0["is_base"], q8_0["kv_type_k"]) == (True, False, "q8_0")
    assert 0 < q8_0["mean_kld"] < 0.01

    def kv_bytes(row):
        return sum(device["kv_cache_bytes"] for device in row["devices"])

    assert kv_bytes(q8_0) == kv_bytes(f16) * 34 // 64


def test_without_an_unquantized_file_there_is_perplexity_and_no_verdict(demo, run_command):
    done = run_command("compare", demo["q8_0"], demo["q2_k"], *QUICK, *FIXED)
    assert done.returncode == 0, done.stderr
    assert "no unquantized file (F32, F16 or BF16) is among them" in done.stderr
    assert "No advice for general text: mean KLD, 99.9 % KLD, same top token, perplexity ratio" in done.stdout


def test_text_of_a_kind_gives_verdicts_for_that_use(demo, run_command):
    texts = (*FIXED, "--text", f"code={__file__}", "--use", "code", "--chunks", "12")
    done = run_command("compare", demo["q2_k"], "--base", demo["bf16"], *QUICK, *texts, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    row = document["rows"][1]
    levels = {verdict["use"]: verdict["level"] for verdict in row["verdicts"]}
    assert (document["use"], levels["code"], levels["general"]) == ("code", "not advised", "not advised")
    assert levels["chat"] == "unknown"
    assert [text["kind"] for text in row["texts"]] == ["code", "general"]


def test_people_read_the_advice_first_and_then_a_table(outputs, cache, run_command):
    lines = run_command("compare", "demo", "--profiles", "q8_0,q2_k", *TIMED, env=cache).stdout.splitlines()
    assert lines[0] == "Take Q8_0: the smallest that is good for general text."
    table = [line for line in lines if line.lstrip(" >*").startswith(("BF16", "Q8_0", "Q2_K")) and "MiB" in line]
    assert [line.split()[-1] for line in table] == ["base", "good?", "advised"]
    assert any(line.startswith(">* Q8_0") for line in table)
    assert (
        "differs: in mean KLD from the row above, chunk by chunk; all answers are right with 95% confidence, "
        "without rare outliers" in lines
    )
    assert "?: more text could change the verdict" in lines
    assert "unknown for chat, code, reasoning, long documents, another language" in lines[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("demo",), "demo is not a GGUF file; give --profiles"),
        (("demo", "demo", "--profiles", "q8_0"), "--profiles are made of one model, but 2 are given"),
        (("demo", "--profiles", "q8_0,Q8_0"), "--profiles has Q8_0 twice"),
        (("demo", "--profiles", "q9_x"), "there is no profile 'q9_x'"),
        (("demo", "--profiles", "iq2_xs"), "importance matrix"),
        (("demo", "--profiles", "q8_0", "--use", "poetry"), "--use 'poetry' is not one of chat, general"),
        (("demo", "--profiles", "q8_0", "--text", "poetry=x.txt"), "'poetry' is not a kind of text; kinds are chat"),
        (("demo", "--profiles", "q8_0", "--text", "code=absent.txt"), "absent.txt cannot be read"),
        (("demo", "--profiles", "q8_0", "--verdicts", "absent.toml"), "the thresholds cannot be read"),
        (("demo", "--profiles", "q8_0", "--kv", "q9_0"), "'q9_0' is not one of f32"),
        (("absent.gguf",), "absent.gguf"),
        (("a.gguf", "--keep", "kept"), "--keep goes with --profiles"),
        (("demo", "--profiles", "q8_0", "--report", "no/folder/r.html"), "the folder no/folder does not exist"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_before_any_work(arguments, message):
    result = CliRunner().invoke(cli, ["compare", *arguments])
    assert isinstance(result.exception, ToolkitError)
    assert result.exception.exit_code in (2, 4)
    assert message in str(result.exception)
    assert "converting" not in result.output


def test_a_text_too_short_for_a_chunk_is_one_line_and_code_2(tiny, run_command):
    files = (tiny / "bad.gguf", "--base", tiny / "good.gguf")
    done = run_command("compare", *files, *QUICK, "--text", tiny / "text.txt", "--chunk-size", "2k")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: the text has")
    assert "Traceback" not in done.stderr


def test_a_file_given_twice_and_an_output_that_exists_are_refused(tiny, tmp_path):
    path = tiny / "good.gguf"
    twice = CliRunner().invoke(cli, ["compare", str(path), str(path)])
    assert "is given twice" in str(twice.exception)
    report = tmp_path / "r.html"
    report.write_text("mine", encoding="utf-8")
    done = CliRunner().invoke(cli, ["compare", str(path), "--report", str(report)])
    assert "give another name, or --force to replace it" in str(done.exception)
    assert report.read_text(encoding="utf-8") == "mine"


def test_text_of_chat_is_read_in_the_models_own_format(converted, run_command, tmp_path):
    text = tmp_path / "talk.txt"
    text.write_text("\n\n".join(f"Say number {number}, please." for number in range(200)), encoding="utf-8")
    base, file = converted("qwen3", "bf16"), converted("qwen3", "q8_0")
    command = (
        "compare",
        file,
        "--base",
        base,
        *QUICK,
        "--text",
        f"chat={text}",
        "--chunks",
        "4",
        "--as-chat",
        "--json",
    )
    row = json.loads(run_command(*command).stdout)["rows"][1]
    assert row["texts"][0]["text"] == "talk.txt as chat"
    assert row["texts"][0]["text_sha256"] != hashlib.sha256(text.read_bytes()).hexdigest()
    assert {verdict["use"]: verdict["level"] for verdict in row["verdicts"]}["chat"] != "unknown"
    refused = CliRunner().invoke(cli, ["compare", str(file), "--as-chat"])
    assert "--as-chat is for text of chat; give --text chat=FILE" in str(refused.exception)
