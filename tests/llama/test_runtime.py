import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy
import pytest
from demo_model import convert_demo
from loopback_device import evaluate_on, loopback_device
from tiny_model import TinyShape, vocabulary, write_tiny_model

from toolkit.errors import DoesNotFitError, GgufError, InputError
from toolkit.llama.log import LogRing, llama_log
from toolkit.llama.parameters import refusal_of
from toolkit.llama.run_settings import RunSettings
from toolkit.llama.runtime import LlamaRuntime

SENTENCE = "the art of war and an inner sea"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny é.gguf")


@pytest.fixture(scope="module")
def runtime(model: Path) -> Iterator[LlamaRuntime]:
    with LlamaRuntime(model, RunSettings(n_ctx=256, n_batch=8, n_ubatch=8, n_threads=1)) as loaded:
        yield loaded


def test_a_model_tells_its_vocabulary_and_layers(runtime: LlamaRuntime) -> None:
    assert runtime.n_vocab == len(vocabulary())
    assert (runtime.n_layer, runtime.n_ctx, runtime.n_ctx_train) == (2, 256, 1024)
    assert runtime.add_bos
    assert runtime.bos_token == 1


def test_text_survives_tokens(runtime: LlamaRuntime) -> None:
    text = "the sea, 1 é 日本"
    tokens = runtime.tokenize(text)
    assert tokens[0] == runtime.bos_token
    assert runtime.detokenize(runtime.tokenize(text, add_special=False)).strip() == text


def test_special_tokens_in_a_text_are_plain_text_unless_asked_for(runtime: LlamaRuntime) -> None:
    assert 2 not in runtime.tokenize("a</s>")
    assert runtime.tokenize("a</s>", parse_special=True)[-1] == 2


def test_logits_are_given_where_asked_for_over_several_batches(runtime: LlamaRuntime) -> None:
    tokens = runtime.tokenize(SENTENCE)
    runtime.clear()
    every = runtime.evaluate(tokens, slice(None))
    runtime.clear()
    some = runtime.evaluate(tokens, slice(5, 12))
    assert every.shape == (len(tokens), runtime.n_vocab)
    numpy.testing.assert_allclose(some, every[5:12], rtol=1e-4, atol=1e-4)


def test_tokens_are_appended_until_the_sequence_is_cleared(runtime: LlamaRuntime) -> None:
    tokens = runtime.tokenize(SENTENCE)
    runtime.clear()
    whole = runtime.evaluate(tokens)
    runtime.clear()
    runtime.feed(tokens[:-1])
    numpy.testing.assert_allclose(runtime.evaluate(tokens[-1:]), whole, rtol=1e-3, atol=1e-3)


def test_a_sequence_can_be_taken_back_to_an_earlier_token(runtime: LlamaRuntime) -> None:
    tokens = runtime.tokenize(SENTENCE)
    runtime.clear()
    whole = runtime.evaluate(tokens)
    assert runtime.rewind(len(tokens) - 1)
    numpy.testing.assert_allclose(runtime.evaluate(tokens[-1:]), whole, rtol=1e-3, atol=1e-3)
    assert not runtime.rewind(len(tokens) + 1)


def test_logits_do_not_depend_on_the_batch(model: Path, runtime: LlamaRuntime) -> None:
    tokens = runtime.tokenize(SENTENCE)
    runtime.clear()
    by_eight = runtime.evaluate(tokens, slice(None))
    with LlamaRuntime(model, RunSettings(n_ctx=256, n_threads=1)) as whole:
        numpy.testing.assert_allclose(whole.evaluate(tokens, slice(None)), by_eight, rtol=1e-3, atol=1e-3)


def test_a_batch_is_no_longer_than_the_context_that_was_asked_for(model: Path) -> None:
    # llama.cpp rounds the context up to 256 tokens, and a batch of more than 64 would end the process.
    with LlamaRuntime(model, RunSettings(n_ctx=64, n_threads=1)) as loaded:
        assert loaded.n_ctx == 256
        assert len(loaded.evaluate([1] * 200, slice(None))) == 200


def test_batches_name_the_index_of_their_first_logits(runtime: LlamaRuntime) -> None:
    runtime.clear()
    found = [(start, len(logits)) for start, logits in runtime.evaluate_batches([1] * 20, slice(5, 19))]
    assert found == [(5, 3), (8, 8), (16, 3)]


def test_chunks_side_by_side_have_the_logits_of_each_alone(model: Path) -> None:
    chunks = [[1, *range(10, 40)], [1, *range(50, 80)]]
    with LlamaRuntime(model, RunSettings(n_ctx=64, n_batch=16, n_ubatch=16, n_threads=1, n_parallel=2)) as both:
        found = [(index, start, rows.copy()) for index, start, rows in both.evaluate_chunks(chunks, slice(20, 30))]
        assert both.n_parallel == 2
    assert [(index, start, len(rows)) for index, start, rows in found] == [
        (0, 20, 4), (1, 20, 4), (0, 24, 6), (1, 24, 6),
    ]  # fmt: skip
    with LlamaRuntime(model, RunSettings(n_ctx=64, n_threads=1)) as alone:
        for index, chunk in enumerate(chunks):
            alone.clear()
            expected = alone.evaluate(chunk, slice(20, 30))
            rows = numpy.concatenate([part for place, _, part in found if place == index])
            numpy.testing.assert_allclose(rows, expected, rtol=1e-3, atol=1e-3)


def test_more_tokens_than_the_context_holds_are_refused(runtime: LlamaRuntime) -> None:
    runtime.clear()
    with pytest.raises(InputError, match="300 tokens do not fit in a context of 256"):
        runtime.evaluate([1] * 300)


def test_an_empty_evaluation_is_refused(runtime: LlamaRuntime) -> None:
    with pytest.raises(InputError, match="no tokens"):
        runtime.evaluate([])


def test_llama_cpp_says_nothing_while_it_works(model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with LlamaRuntime(model) as loaded:
        loaded.evaluate(loaded.tokenize("a"))
    assert capfd.readouterr() == ("", "")


def test_a_file_that_is_no_model_is_refused_with_the_reason_of_llama_cpp(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bad.gguf"
    file.write_bytes(b"not a model at all, but long enough to look at")
    with pytest.raises(GgufError, match=r"bad\.gguf: llama\.cpp refuses to load it: .*(magic|GGUF|gguf)") as caught:
        LlamaRuntime(file)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_model_that_lacks_a_tensor_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(GgufError, match=r"refuses to load it: tensor 'blk\.1\.ffn_up\.weight' not found$"):
        LlamaRuntime(write_tiny_model(tmp_path / "m.gguf", without="blk.1.ffn_up.weight"))


def test_a_model_without_bos_names_none(tmp_path: Path) -> None:
    with LlamaRuntime(write_tiny_model(tmp_path / "m.gguf", TinyShape(add_bos=False))) as loaded:
        assert loaded.bos_token is None
        assert loaded.tokenize("a")[0] != 1


def test_memory_is_told_by_buffer_and_a_mapped_file_stands_apart(model: Path) -> None:
    with LlamaRuntime(model) as loaded:
        buffers = {buffer.name: buffer for buffer in loaded.memory_buffers()}
        assert buffers["CPU_Mapped"].weights_bytes > 2_000_000
        assert buffers["CPU"].kv_cache_bytes == 512 * 2 * 2 * 128 * 2
        assert loaded.footprint().gpu_bytes == 0


def test_half_the_layers_on_a_device_give_the_same_logits(model: Path, runtime: LlamaRuntime) -> None:
    tokens = runtime.tokenize(SENTENCE)
    runtime.clear()
    here = runtime.evaluate(tokens, slice(None))
    with loopback_device() as endpoint:
        numpy.testing.assert_allclose(evaluate_on(endpoint, model, 2, tokens), here, rtol=1e-3, atol=1e-3)


def test_the_log_keeps_its_last_lines_and_the_telling_error() -> None:
    ring = LogRing(max_lines=4)
    ring.write(2, "first\n")
    ring.write(2, "loading ")
    ring.write(5, "...\n")
    ring.write(4, "llama_model_load: error loading model: missing tensor 'x'\n")
    ring.write(4, "llama_model_load_from_file_impl: failed to load model\n")
    assert ring.lines()[1] == "loading ..."
    assert ring.reason() == "missing tensor 'x'"


@pytest.mark.parametrize("reason", ["failed to allocate buffer for kv cache", "std::bad_alloc"])
def test_memory_that_does_not_suffice_is_not_blamed_on_the_file(reason: str) -> None:
    llama_log().begin()
    llama_log().write(4, f"llama_init_from_model: failed to initialize the context: {reason}\n")
    refusal = refusal_of(Path("m.gguf"))
    assert isinstance(refusal, DoesNotFitError)
    assert str(refusal).endswith(reason)


def test_a_log_without_errors_gives_no_reason() -> None:
    ring = LogRing()
    ring.write(2, "all is well\n")
    assert ring.reason() == "llama.cpp gave no reason"


@pytest.mark.parametrize("kept", [0, 1 << 20] * 2)
def test_a_file_that_is_cut_off_while_it_runs_is_an_error_and_no_signal(kept: int, tmp_path: Path) -> None:
    path = convert_demo(tmp_path, "bf16")
    with LlamaRuntime(path, RunSettings(n_ctx=64, n_batch=64, n_ubatch=64, n_threads=2)) as runtime:
        runtime.feed([5] * 20)
        os.truncate(path, kept)
        with pytest.raises(InputError, match=r"demo-bf16\.gguf was cut off while it was read"):
            runtime.feed([5] * 20)


def test_a_file_that_is_written_to_while_it_runs_is_an_error(tmp_path: Path) -> None:
    path = convert_demo(tmp_path, "bf16")
    with LlamaRuntime(path, RunSettings(n_ctx=64, n_batch=64, n_ubatch=64, n_threads=2)) as runtime:
        os.utime(path, ns=(0, 0))
        with pytest.raises(InputError, match=r"demo-bf16\.gguf was modified while it was read"):
            runtime.feed([5])


def test_what_a_template_wrote_begins_with_one_beginning(runtime: LlamaRuntime) -> None:
    plain = runtime.tokenize_rendered("the sea")
    assert plain == runtime.tokenize("the sea", parse_special=True)
    assert runtime.tokenize_rendered("<s>the sea").count(1) == plain.count(1) == 1


def test_a_recurrent_state_does_not_go_back(converted: Callable[[str, str], Path]) -> None:
    with LlamaRuntime(converted("mamba2", "bf16"), RunSettings(n_ctx=32, n_threads=1)) as loaded:
        loaded.feed([1, 2, 3, 4])
        assert not loaded.rewind(2)
