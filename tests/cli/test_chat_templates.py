"""`--chat-template FILE`: another template than the model's own, to write or to render with."""

import json

import pytest
from altered_gguf import altered
from click.testing import CliRunner
from tiny_model import write_tiny_model

from toolkit.cli import cli
from toolkit.demo import demo_checkpoint
from toolkit.errors import DoesNotFitError
from toolkit.gguf.format import string
from toolkit.gguf.reader import read_gguf
from toolkit.tokenizer.chat_template import KEY

MINE = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
OWN = "{{ raise_exception('the model has this one') }}"


@pytest.fixture
def template(tmp_path):
    path = tmp_path / "mine.jinja"
    path.write_text(MINE + "\r\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    return altered(write_tiny_model(folder / "tiny.gguf"), folder / "own.gguf", {KEY: string(OWN)})


def run(*words):
    return CliRunner(catch_exceptions=False).invoke(cli, list(map(str, words)))


def test_a_conversion_writes_it_and_says_so(tmp_path, template):
    done = run("convert", demo_checkpoint(), tmp_path / "m.gguf", "-p", "q8_0", "--chat-template", template)
    assert done.stderr.splitlines() == [f"the chat template is that of {template}, where the model has none"]
    assert read_gguf(tmp_path / "m.gguf").metadata[KEY].value == MINE + "\n"


def test_a_requantized_file_gets_it_in_place_of_its_own(tmp_path, template, model):
    done = run("quantize", model, tmp_path / "m.gguf", "-p", "q8_0", "--chat-template", template)
    assert f"the chat template is that of {template}, in place of the model's own" in done.stderr
    assert read_gguf(tmp_path / "m.gguf").metadata[KEY].value == MINE + "\n"
    against = ("verify", tmp_path / "m.gguf", "--source", model, "--no-run", "--json")
    outcomes = {}
    for words in (against, (*against, "--chat-template", template)):
        checks = json.loads(CliRunner().invoke(cli, list(map(str, words))).stdout)["checks"]
        outcomes[len(words)] = {check["name"]: check["outcome"] for check in checks}["chat template"]
    assert list(outcomes.values()) == ["FAIL", "PASS"]


def test_the_template_is_never_replaced_by_the_output(template, model):
    before = template.read_bytes()
    done = CliRunner().invoke(cli, ["quantize", str(model), str(template), "--chat-template", str(template), "--force"])
    assert "is the input itself; name another output" in str(done.exception)
    assert template.read_bytes() == before


def test_fit_plans_a_file_with_it(template):
    words = ["fit", "demo", "--vram", "1KiB", "--ram", "1KiB", "--ctx", "128", "--chat-template", str(template)]
    done = CliRunner().invoke(cli, words)
    assert isinstance(done.exception, DoesNotFitError)
    assert f"the chat template is that of {template}, where the model has none" in done.stderr


def test_a_prompt_is_rendered_with_it(run_command, template, model):
    words = ("run", model, "-n", "1", "--threads", "1", "--json", "-p", "the sea")
    assert "the model has this one" in run_command(*words).stderr
    mine, raw = (json.loads(run_command(*words, *more).stdout) for more in (("--chat-template", template), ("--raw",)))
    assert mine["prompt_tokens"] > raw["prompt_tokens"]


def test_a_text_is_rendered_with_it(run_command, template, model):
    words = ("perplexity", model, "--ctx", "32", "--chunks", "2", "--threads", "1", "--json")
    assert "the model has this one" in run_command(*words, "--as-chat").stderr
    found = json.loads(run_command(*words, "--as-chat", "--chat-template", template).stdout)
    assert found["as_chat"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", "m.gguf", "-p", "x", "--raw"), "--chat-template is a part of the chat format, which --raw leaves out"),
        (("perplexity", "m.gguf"), "--chat-template is of use with --as-chat only"),
        (("compare", "demo", "--profiles", "q8_0"), "--chat-template is of use with --as-chat only"),
    ],
)
def test_where_it_would_be_ignored_it_is_refused(words, message, template, tmp_path):
    write_tiny_model(tmp_path / "m.gguf")
    done = CliRunner().invoke(
        cli, [str(tmp_path / word) if word == "m.gguf" else word for word in words] + ["--chat-template", str(template)]
    )
    assert message in done.output + str(done.exception)


def test_an_empty_template_in_a_file_is_none(run_command, tmp_path):
    empty = altered(write_tiny_model(tmp_path / "tiny.gguf"), tmp_path / "m.gguf", {KEY: string(" ")})
    done = run_command("run", empty, "-n", "1", "--threads", "1", "-p", "the sea")
    assert "there is no chat template in the file" in done.stderr
    assert done.returncode == 0
