"""Positions beyond a table of learnt ones would end the process: they are refused before anything is loaded."""

import pytest

from toolkit.errors import InputError
from toolkit.llama.runtime import LlamaRuntime
from toolkit.llama.runtime_settings import RuntimeSettings


def test_more_tokens_than_learnt_positions_are_not_evaluated(converted):
    with LlamaRuntime(converted("gpt2", "bf16"), RuntimeSettings(512, n_threads=1)) as runtime:
        assert runtime.n_ctx == 256, "llama.cpp's context has room for more"
        runtime.feed([5] * 256)
        with pytest.raises(InputError, match="257 tokens do not fit in a context of 256"):
            runtime.feed([5])


def test_rotated_positions_have_no_such_end(converted):
    with LlamaRuntime(converted("llama2", "bf16"), RuntimeSettings(512, n_threads=1)) as runtime:
        assert (runtime.n_ctx_train, runtime.n_ctx) == (256, 512)
        runtime.feed([5] * 512)


@pytest.mark.parametrize(
    "arguments",
    [
        ("perplexity", "--ctx", "512"),
        ("perplexity", "--ctx", "256", "--stride", "300"),
        ("imatrix", "--ctx", "257", "-o", "m.imatrix"),
        ("bench", "-p", "300", "-n", "0"),
        ("bench", "-p", "16", "-n", "16", "-d", "250"),
        ("run", "-p", "a", "--ctx", "512"),
        ("plan", "--ctx", "512", "--vram", "0"),
    ],
    ids=" ".join,
)
def test_commands_say_the_largest_context(arguments, converted, run_command, tmp_path):
    command, *rest = arguments
    done = run_command(command, converted("gpt2", "bf16"), *rest, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "256 positions" in done.stderr.splitlines()[-1]
    assert "n_ctx is 256" in done.stderr.splitlines()[-1]
    assert not any(tmp_path.iterdir())
