"""`run` as a user calls it."""

import json

import pytest
from altered_gguf import altered
from demo_model import convert_demo
from loopback_device import loopback_device
from tiny_model import write_tiny_model

from toolkit.gguf.format import string
from toolkit.tokenizer.chat_template import KEY


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return convert_demo(tmp_path_factory.mktemp("demo"), "q4_k_m")


def run(run_command, model, *words):
    return run_command("run", model, "--threads", "1", "-n", "8", *words)


def test_the_text_goes_to_stdout_and_the_rest_to_stderr(run_command, demo):
    done = run(run_command, demo, "--raw", "-p", "The for statement")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert "allocated, as predicted to the byte" in done.stderr
    assert "tokens/s" in done.stderr
    assert "generated 8" in done.stderr


def test_a_document_has_the_same_text_and_the_numbers(run_command, demo):
    words = ("--raw", "-p", "The for statement")
    found = json.loads(run(run_command, demo, *words, "--json").stdout)
    assert found["answer"] == run(run_command, demo, *words).stdout.removesuffix("\n")
    assert (found["generated_tokens"], found["ended_by"]) == (8, "length")
    assert found["prompt_tokens"] > 0
    assert found["devices"][0]["predicted_bytes"] == found["devices"][0]["allocated_bytes"]


def test_it_runs_where_the_plan_puts_it(run_command, demo):
    with loopback_device() as endpoint:
        words = ("--raw", "-p", "The for statement", "--rpc", endpoint, "--vram", "8MiB", "--margin", "0", "--json")
        found = json.loads(run(run_command, demo, *words).stdout)
    server = next(device for device in found["devices"] if device["name"].startswith("RPC"))
    assert 0 < server["allocated_bytes"] == server["predicted_bytes"] <= 8 << 20


def test_a_prompt_is_put_into_the_models_own_chat_format(run_command, converted):
    model = converted("qwen2", "q8_0")
    as_chat, raw = (
        json.loads(run(run_command, model, "-p", "hi", *words, "--json").stdout) for words in ((), ("--raw",))
    )
    with_system = json.loads(run(run_command, model, "-p", "hi", "--system", "Be brief.", "--json").stdout)
    assert raw["prompt_tokens"] < as_chat["prompt_tokens"] != with_system["prompt_tokens"]


def test_a_file_without_a_chat_format_says_so_and_goes_on(run_command, tmp_path):
    model = write_tiny_model(tmp_path / "m.gguf")
    done = run(run_command, model, "-p", "the sea")
    assert done.returncode == 0
    assert "there is no chat template in the file" in done.stderr
    done = run(run_command, model, "-p", "the sea", "--system", "x")
    assert done.returncode == 2
    assert "it takes no --system message" in done.stderr


def test_a_prompt_may_come_from_stdin(run_command, demo):
    done = run_command("run", demo, "-n", "2", "--raw", "-p", "-", input="The for statement")
    assert done.returncode == 0
    assert done.stdout.strip()


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "takes more than 2 s"),
        ("{{ 'a' * 10**11 }}", "takes more than 512 MiB of memory"),
        ("{% break %}", "'break' outside loop"),
        ("{{ '\\ud800' }}", "half of a surrogate pair"),
    ],
)
def test_a_template_that_never_ends_or_is_none_is_told_in_one_line(run_command, tmp_path, template, reason):
    model = altered(write_tiny_model(tmp_path / "m.gguf"), tmp_path / "hostile.gguf", {KEY: string(template)})
    done = run(run_command, model, "-p", "the sea")
    (line,) = (line for line in done.stderr.splitlines() if not line.startswith("warning: "))
    assert line.startswith("error: the chat template does not take the prompt (")
    assert reason in line
    assert line.endswith("); --raw continues the prompt without it")
    assert (done.returncode, done.stdout) == (2, "")


def test_a_prompt_on_stdin_that_is_no_text_is_told(run_command, demo, tmp_path):
    (tmp_path / "noise").write_bytes(b"a\xff\xfe")
    with (tmp_path / "noise").open("rb") as noise:
        done = run_command("run", demo, "--raw", "-p", "-", stdin=noise)
    assert done.returncode == 2
    assert "error: the prompt is not text in UTF-8" in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("-p", ""), 2, "the prompt is empty"),
        (("--raw", "-p", "a\udcff"), 2, "the prompt is not text in UTF-8"),
        (("--raw", "--system", "x", "-p", "hi"), 2, "--system is a part of the chat format"),
        (("--raw", "--ctx", "256", "-p", "word " * 400), 2, "leaves no token free in a context of 256"),
        (("--raw", "-p", "hi", "--ram", "100KiB"), 3, "of RAM beside what can be mapped"),
        ((), 2, "Missing option '-p'"),
    ],
)
def test_bad_input_is_told_in_one_line(run_command, demo, words, code, message):
    done = run(run_command, demo, *words)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
