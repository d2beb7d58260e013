"""Models that predict no next token are told apart before llama.cpp is asked for one, which would end the process."""

import pytest

from toolkit.errors import InputError
from toolkit.gguf.reader import read_gguf
from toolkit.llama.next_token import GIVES_EMBEDDINGS, NEEDS_ENCODER, why_no_next_token
from toolkit.llama.runtime import LlamaRuntime
from toolkit.llama.runtime_settings import RuntimeSettings

SETTINGS = RuntimeSettings(n_ctx=64, n_batch=64, n_ubatch=64)


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
