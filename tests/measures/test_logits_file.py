import struct
from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest
from demo_model import FIXED_TEXT, GOLDEN, convert_demo
from llama_tools import llama_tool
from tiny_model import write_tiny_model
from tool_prints import ROUNDING

from toolkit.errors import InputError
from toolkit.llama.run_settings import RunSettings
from toolkit.llama.runtime import LlamaRuntime
from toolkit.measures.chunks import Chunks, cut_chunks
from toolkit.measures.evaluation_text import read_text
from toolkit.measures.logits_file import (
    LogitsFile,
    SaveAs,
    logits_writer,
    measure_and_save,
    read_logits,
    row_length,
    store_logits,
)
from toolkit.measures.perplexity import measure_perplexity

TEXT = "the art of war and an inner sea. " * 10


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaRuntime]:
    path = write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.gguf")
    with LlamaRuntime(path, RunSettings(n_ctx=32, n_batch=32, n_ubatch=32, n_threads=1)) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def saved(runtime: LlamaRuntime, tmp_path_factory: pytest.TempPathFactory) -> LogitsFile:
    path = tmp_path_factory.mktemp("saved") / "base.logits"
    measure_and_save(runtime, cut_chunks(runtime.tokenize(TEXT), 32, 3), SaveAs(path))
    return read_logits(path)


def stored_by_the_definition(row: numpy.ndarray) -> tuple[float, float, list[int]]:
    """Follow llama-perplexity's log_softmax() one value at a time in float32."""
    f32 = numpy.float32
    top = row.max()
    bottom = max(row.min(), f32(top - f32(16)))
    log_sum = f32(numpy.log(sum(float(numpy.exp(f32(value - top))) for value in row)))
    scale = f32(f32(top - bottom) / f32(65535))
    inverse = f32(1) / scale
    codes = [int(numpy.rint(f32(inverse * f32(value - bottom)))) if value > bottom else 0 for value in row]
    return float(scale), float(f32(f32(bottom - top) - log_sum)), codes


def test_rows_are_stored_as_llama_perplexity_stores_them() -> None:
    logits = numpy.random.default_rng(3).normal(0, 7, (5, 101)).astype(numpy.float32)
    stored = store_logits(logits)
    for index, row in enumerate(logits):
        scale, lowest, codes = stored_by_the_definition(row)
        assert stored.scale[index, 0] == numpy.float32(scale)
        assert stored.lowest[index, 0] == pytest.approx(lowest, rel=2e-7)
        assert stored.codes[index].tolist() == codes


def test_equally_likely_tokens_are_stored_without_a_division_by_zero() -> None:
    stored = store_logits(numpy.zeros((2, 8), numpy.float32))
    assert stored.codes.max() == 0
    numpy.testing.assert_allclose(stored.lowest, -numpy.log(8), rtol=1e-6)


def test_a_row_has_an_even_number_of_codes() -> None:
    assert (row_length(8), row_length(7)) == (12, 12)
    assert store_logits(numpy.ones((1, 7), numpy.float32)).codes.shape == (1, 7)


def test_a_file_has_the_layout_of_llama_perplexity(saved: LogitsFile, runtime: LlamaRuntime) -> None:
    data = saved.path.read_bytes()
    tokens = runtime.tokenize(TEXT)
    assert struct.unpack_from("<8siii", data) == (b"_logits_", 32, runtime.n_vocab, 3)
    assert list(struct.unpack_from("<96i", data, 20)) == tokens[:96]
    assert len(data) == 20 + 96 * 4 + 3 * 15 * row_length(runtime.n_vocab) * 2
    runtime.clear()
    logits = runtime.evaluate([1, *tokens[33:64]], slice(16, 31))
    numpy.testing.assert_array_equal(saved.rows(1, 0, 15).packed, store_logits(logits).packed)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert_demo(tmp_path_factory.mktemp("demo"), "bf16")


def test_a_file_of_llama_perplexity_is_read(demo: Path) -> None:
    theirs = read_logits(GOLDEN / "demo.logits")
    with LlamaRuntime(demo, RunSettings(n_ctx=16, n_batch=16, n_ubatch=16, n_threads=1)) as runtime:
        chunks = cut_chunks(runtime.tokenize(read_text(FIXED_TEXT).text), 16, 2)
        n_vocab = runtime.n_vocab
    assert (list(theirs.chunks.tokens), theirs.chunks.n_ctx_seq, theirs.chunks.count) == (chunks.tokens[:32], 16, 2)
    assert theirs.n_vocab == n_vocab
    for chunk in range(2):
        stored = theirs.rows(chunk, 0, 7)
        chances = numpy.exp(stored.codes * stored.scale.astype(float) + stored.lowest)
        # What is less likely than the format reaches is raised to e^-16 of the likeliest.
        assert ((chances.sum(axis=1) > 0.999) & (chances.sum(axis=1) < 1 + n_vocab * numpy.exp(-16))).all()


def test_ours_is_the_file_that_llama_perplexity_writes_here(demo: Path, tmp_path: Path) -> None:
    llama_tool("perplexity", demo, FIXED_TEXT, "-c", 64, "--logits", tmp_path / "theirs")
    settings = RunSettings(n_ctx=2048, n_batch=2048, n_ubatch=512, n_threads=1, n_parallel=32)
    with LlamaRuntime(demo, settings) as runtime:
        measure_and_save(
            runtime, cut_chunks(runtime.tokenize(read_text(FIXED_TEXT).text), 64), SaveAs(tmp_path / "ours")
        )
    ours, theirs = read_logits(tmp_path / "ours"), read_logits(tmp_path / "theirs")
    assert (list(ours.chunks.tokens)[:576], ours.chunks.count) == (list(theirs.chunks.tokens), 9)
    for chunk in range(9):
        found, expected = (file.rows(chunk, 0, 31) for file in (ours, theirs))
        numpy.testing.assert_array_equal(found.codes, expected.codes)
        numpy.testing.assert_array_equal(found.scale, expected.scale)
        numpy.testing.assert_allclose(found.lowest, expected.lowest, rtol=0, atol=ROUNDING)


def test_keeping_the_logits_does_not_change_the_perplexity(runtime: LlamaRuntime, tmp_path: Path) -> None:
    chunks = cut_chunks(runtime.tokenize(TEXT), 32)
    kept = measure_and_save(runtime, chunks, SaveAs(tmp_path / "l"))
    assert kept == measure_perplexity(runtime, chunks.tokens, 32)


def test_a_file_gives_back_its_chunks_and_tokens(saved: LogitsFile, runtime: LlamaRuntime) -> None:
    assert saved.chunks == Chunks(runtime.tokenize(TEXT)[:96], 32, 3)
    saved.check(runtime.n_vocab, 32, runtime.tokenize(TEXT))


def test_what_differs_is_named(saved: LogitsFile, runtime: LlamaRuntime) -> None:
    tokens = runtime.tokenize(TEXT)
    with pytest.raises(InputError, match=r"its vocabulary is 297 tokens, but the model's has 300"):
        saved.check(300)
    with pytest.raises(InputError, match="its n_ctx is 32, but --ctx is 64"):
        saved.check(runtime.n_vocab, 64)
    with pytest.raises(InputError, match=f"its token 70 is {tokens[70]}, but the text's is 5;"):
        saved.check(runtime.n_vocab, 32, [*tokens[:70], 5, *tokens[71:]])
    with pytest.raises(InputError, match="its text is 96 tokens, but the text has only 50"):
        saved.check(runtime.n_vocab, 32, tokens[:50])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-2], "it was cut off or is of another version"),
        (lambda data: data + b"\0\0", "it was cut off or is of another version"),
        (lambda data: data[:15], "is not a logits file"),
        (lambda data: b"GGUF" + data[4:], "is not a logits file"),
        (lambda data: data[:8] + struct.pack("<i", -32) + data[12:], "a damaged header: n_ctx -32"),
        (lambda data: data[:16] + struct.pack("<i", 2**31 - 1) + data[20:], "2,147,483,647 chunks"),
    ],
)
def test_a_damaged_file_is_refused(saved: LogitsFile, tmp_path: Path, change, message: str) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "bad.logits"
    path.write_bytes(change(saved.path.read_bytes()))
    with pytest.raises(InputError, match=message):
        read_logits(path)


def test_an_absent_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_logits(tmp_path / "none")


def test_an_interrupted_measurement_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), logits_writer(tmp_path / "l", Chunks([1] * 8, 4, 2), 10):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
