"""The texts that measuring commands take: sets on the hub, and a model's own chat format."""

import json
import os
import zipfile

import pytest
from altered_gguf import altered
from demo_model import FIXED_TEXT, convert_demo
from hub_server import Hub, serve

from toolkit.cli import imatrix, kld, perplexity
from toolkit.gguf.format import string

OFFLINE = {"HF_ENDPOINT": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
QUICK = ("--ctx", "32", "--chunks", "2", "--threads", "1", "--json")


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return convert_demo(tmp_path_factory.mktemp("demo"), "q8_0")


@pytest.fixture
def hub(tmp_path):
    """Serve the archive of WikiText-2 with another text in it."""
    (tmp_path / "served").mkdir()
    with zipfile.ZipFile(tmp_path / "served" / "wikitext-2-raw-v1.zip", "w") as archive:
        archive.write(FIXED_TEXT, "wikitext-2-raw/wiki.test.raw")
    with serve(Hub({"ggml-org/ci": tmp_path / "served"})) as served:
        yield served


def measured(run_command, model, tmp_path, **environment):
    clean = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    env = clean | {"HF_HOME": str(tmp_path / "cache")} | environment
    return run_command("perplexity", model, "--text", "wikitext-2", *QUICK, env=env)


def test_wikitext_2_is_fetched_once_and_then_serves_without_a_network(run_command, hub, demo, tmp_path):
    first = measured(run_command, demo, tmp_path, **hub.environment)
    assert first.returncode == 0, first.stderr
    found = json.loads(first.stdout)
    own = json.loads(run_command("perplexity", demo, "--text", FIXED_TEXT, *QUICK).stdout)
    assert found["text"] == "wikitext-2"
    assert (found["text_sha256"], found["perplexity"]) == (own["text_sha256"], own["perplexity"])
    served = dict(hub.served)
    again = measured(run_command, demo, tmp_path, **OFFLINE)
    assert json.loads(again.stdout)["perplexity"] == found["perplexity"]
    assert hub.served == served


def test_without_a_network_and_a_cache_there_is_one_line(run_command, demo, tmp_path):
    done = measured(run_command, demo, tmp_path, **OFFLINE)
    assert done.returncode == 4
    assert done.stdout == ""
    assert "of the data set ggml-org/ci cannot be fetched from the hub" in done.stderr
    assert "give a text of your own with --text FILE" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_file_of_that_name_wins(run_command, demo, tmp_path):
    (tmp_path / "wikitext-2").write_bytes(FIXED_TEXT.read_bytes())
    done = run_command("perplexity", demo, "--text", "wikitext-2", *QUICK, cwd=tmp_path)
    assert json.loads(done.stdout)["text"] == "wikitext-2"


def test_a_model_without_a_chat_template_is_not_measured_as_chat(run_command, demo):
    done = run_command("perplexity", demo, "--as-chat", *QUICK)
    assert done.returncode == 2
    assert "has no chat template" in done.stderr


def test_a_template_that_wants_all_memory_is_told_in_one_line(run_command, demo, tmp_path):
    hostile = altered(demo, tmp_path / "hostile.gguf", {"tokenizer.chat_template": string("{{ 'a' * 10**11 }}")})
    done = run_command("perplexity", hostile, "--as-chat", *QUICK)
    assert done.returncode == 2
    assert done.stderr == (
        "error: the chat template of hostile.gguf does not take paragraphs as turns: rendering it takes more than 512 MiB of "
        "memory\n"
    )


@pytest.mark.parametrize("command", ["perplexity", "kld", "imatrix"])
def test_a_chat_model_reads_its_own_format(run_command, converted, tmp_path, command):
    model = converted("qwen3", "bf16")
    more = {"kld": ("--base", model), "imatrix": ("-o", tmp_path / "m")}.get(command, ())
    plain, chat = (
        json.loads(run_command(command, model, *QUICK, *more, *flag).stdout)
        for flag in ((), ("--as-chat", *(("--force",) if command == "imatrix" else ())))
    )
    if command == "imatrix":
        assert chat["datasets"] == [f"{plain['datasets'][0]} as chat"]
    else:
        assert (plain["as_chat"], chat["as_chat"]) == (False, True)
        assert chat["text_sha256"] != plain["text_sha256"]


def test_every_command_that_reads_a_text_takes_the_same_options():
    commands = (perplexity.command, kld.command, imatrix.collect)
    spellings = [{parameter.name: sorted(parameter.opts) for parameter in command.params} for command in commands]
    shared = ("text", "as_chat", "n_ctx_seq", "chunks", "n_gpu_layers", "kv", "threads", "vram", "ram", "margin", "rpc")
    for name in (*shared, "flash_attention", "override_tensor", "use_mmap", "as_json"):
        first, *others = (options.get(name) for options in spellings)
        assert first
        assert others == [first, first], name
