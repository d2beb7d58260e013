"""What would end the process is refused before: a next token of models that predict none, positions beyond a learnt table."""

import pytest

from toolkit.errors import InputError
from toolkit.gguf.reader import read_gguf
from toolkit.llama.model_limits import GIVES_EMBEDDINGS, NEEDS_ENCODER, why_no_next_token
from toolkit.llama.run_settings import RunSettings
from toolkit.llama.runtime import LlamaRuntime

SETTINGS = RunSettings(n_ctx=64, n_batch=64, n_ubatch=64)


@pytest.mark.parametrize(
    ("case", "why"), [("bert", GIVES_EMBEDDINGS), ("nomic_bert", GIVES_EMBEDDINGS), ("t5", NEEDS_ENCODER)]
)
def test_evaluating_them_is_refused_in_one_line(case, why, converted):
    file = read_gguf(converted(case, "q8_0"))
    assert why_no_next_token(file.metadata, file.tensors) == why
    with LlamaRuntime(file.path, SETTINGS) as runtime:
        with pytest.raises(InputError, match=why):
            runtime.evaluate([5, 6, 7])
        with pytest.raises(InputError, match=why):
            runtime.feed([5])


def test_a_decoder_is_no_such_model(converted):
    file = read_gguf(converted("llama3", "q8_0"))
    assert why_no_next_token(file.metadata, file.tensors) is None
    with LlamaRuntime(file.path, SETTINGS) as runtime:
        assert runtime.evaluate([5, 6, 7]).shape == (1, runtime.n_vocab)


def test_commands_that_measure_end_with_one_line(converted, kit_checkpoint, run_command, tmp_path):
    measured = run_command("perplexity", converted("bert", "q8_0"))
    assert (measured.returncode, measured.stdout) == (2, "")
    assert GIVES_EMBEDDINGS in measured.stderr.splitlines()[-1]
    output = tmp_path / "out.gguf"
    fitted = run_command("fit", kit_checkpoint("t5"), "--vram", "1GiB", "--ctx", "128", "--out", output)
    assert fitted.returncode == 2
    assert NEEDS_ENCODER in fitted.stderr.splitlines()[-1]
    assert not output.exists()


def test_more_tokens_than_learnt_positions_are_not_evaluated(converted):
    with LlamaRuntime(converted("gpt2", "bf16"), RunSettings(n_ctx=512, n_threads=1)) as runtime:
        assert runtime.n_ctx == 256, "llama.cpp's context has room for more"
        runtime.feed([5] * 256)
        with pytest.raises(InputError, match="257 tokens do not fit in a context of 256"):
            runtime.feed([5])


def test_rotated_positions_have_no_such_end(converted):
    with LlamaRuntime(converted("llama2", "bf16"), RunSettings(n_ctx=512, n_threads=1)) as runtime:
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
