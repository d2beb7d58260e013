import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy
import pytest
from recorded_task import RecordedTask
from tiny_model import TinyShape, write_tiny_model

from toolkit.errors import QualityError
from toolkit.llama.evaluation import Logits
from toolkit.llama.run_settings import RunSettings
from toolkit.llama.runtime import LlamaRuntime
from toolkit.measures.chunks import chunks_together, cut_chunks
from toolkit.measures.perplexity import measure_chunks, measure_perplexity

TEXT = "the art of war and an inner sea. " * 40


class UniformRuntime:
    """A runtime that finds every token equally likely, and remembers what it was given."""

    n_ctx, n_vocab = 64, 10

    def __init__(self, bos_token: int | None = 7, n_parallel: int = 1) -> None:
        self.bos_token, self.n_parallel, self.given = bos_token, n_parallel, []  # type: ignore[var-annotated]

    def clear(self) -> None:
        pass

    def rewind(self, n_tokens: int) -> bool:
        raise NotImplementedError

    def feed(self, tokens: Sequence[int]) -> None:
        pass

    def evaluate_chunks(self, chunks: Sequence[Sequence[int]], logits_for: slice) -> Iterator[tuple[int, int, Logits]]:
        self.given.extend(map(list, chunks))
        wanted = range(len(chunks[0]))[logits_for]
        for index in range(len(chunks)):
            yield index, wanted[0], numpy.zeros((len(wanted), self.n_vocab), numpy.float32)


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaRuntime]:
    path = write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.gguf")
    with LlamaRuntime(path, RunSettings(n_ctx=64, n_batch=24, n_ubatch=24, n_threads=1)) as loaded:
        yield loaded


def scored_by_the_definition(runtime: LlamaRuntime, tokens: list[int], n_ctx: int) -> list[float]:
    """Score one token at a time in Python's own floats."""
    nlls = []
    for start in range(0, len(tokens) // n_ctx * n_ctx, n_ctx):
        chunk = tokens[start : start + n_ctx]
        runtime.clear()
        logits = runtime.evaluate([1, *chunk[1:]], slice(None)).astype(numpy.float64)
        for position in range(n_ctx // 2, n_ctx - 1):
            row = logits[position]
            nlls.append(float(numpy.log(numpy.exp(row - row.max()).sum()) + row.max() - row[chunk[position + 1]]))
    return nlls


def test_perplexity_and_its_error_follow_the_definition(runtime: LlamaRuntime) -> None:
    tokens = runtime.tokenize(TEXT)
    nlls = scored_by_the_definition(runtime, tokens, 32)
    found = measure_perplexity(runtime, tokens, 32)
    mean = sum(nlls) / len(nlls)
    variance = sum(nll * nll for nll in nlls) / len(nlls) - mean * mean
    assert found.tokens == len(nlls) == found.chunks * 15
    assert found.perplexity == pytest.approx(math.exp(mean), rel=1e-6)
    assert found.standard_error == pytest.approx(math.sqrt(variance / (len(nlls) - 1)) * math.exp(mean), rel=1e-5)
    assert found.mean_nll == pytest.approx(sum(found.chunk_nlls) / found.chunks)


def test_equally_likely_tokens_have_the_perplexity_of_their_number() -> None:
    found = measure_perplexity(UniformRuntime(), list(range(10)) * 2, 8)
    assert found.perplexity == pytest.approx(10)
    assert found.standard_error == pytest.approx(0, abs=1e-6)
    assert (found.tokens, found.chunks, found.n_ctx_seq) == (6, 2, 8)


@pytest.mark.parametrize(("bos_token", "first"), [(7, [7, 7]), (None, [0, 8])])
def test_the_first_token_of_a_chunk_is_replaced_exactly_where_the_model_wants_bos(
    bos_token: int | None, first: list[int]
) -> None:
    fake = UniformRuntime(bos_token)
    measure_perplexity(fake, list(range(10)) * 2, 8)
    assert [chunk[0] for chunk in fake.given] == first
    assert fake.given[1][1:] == [9, 0, 1, 2, 3, 4, 5]


def test_chunks_side_by_side_are_scored_like_one_after_the_other(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "tiny.gguf")
    results = []
    for n_parallel in (1, 3):
        settings = RunSettings(n_ctx=32 * n_parallel, n_batch=96, n_ubatch=96, n_threads=1, n_parallel=n_parallel)
        with LlamaRuntime(path, settings) as loaded:
            results.append(measure_perplexity(loaded, loaded.tokenize(TEXT), 32, 8))
    alone, together = results
    assert together.chunk_nlls == pytest.approx(alone.chunk_nlls, rel=1e-4)
    assert together.tokens == alone.tokens == 8 * 15


def test_chunks_are_grouped_by_what_a_runtime_takes_at_once() -> None:
    fake = UniformRuntime(n_parallel=3)
    found = measure_perplexity(fake, list(range(10)) * 4, 8)
    assert found.chunks == len(fake.given) == 5
    assert [list(group) for group in cut_chunks([1] * 40, 8).groups(3)] == [[0, 1, 2], [3, 4]]
    assert [chunks_together(n_ctx) for n_ctx in (4, 64, 512, 700, 4096)] == [256, 32, 4, 2, 1]
    assert chunks_together(64, max_chunks=5) == 5


def test_chunks_with_a_stride_overlap_and_keep_their_first_token() -> None:
    fake = UniformRuntime(bos_token=7)
    chunks = cut_chunks(list(range(10)) * 10, 8, None, 3)
    found = measure_chunks(fake, chunks)
    assert [chunk[0] for chunk in fake.given] == [start % 10 for start in range(0, 93, 3)]
    assert (chunks.scored, found.tokens, found.chunks) == (slice(4, 7), 93, 31)
    assert chunks.targets(1, 4, 3).tolist() == [8, 9, 0]
    assert chunks.describe(1) == "chunk 2 of 31 (tokens 3 to 10)"


def test_progress_is_reported_after_every_chunk_and_chunks_can_be_limited() -> None:
    task = RecordedTask()
    found = measure_perplexity(UniformRuntime(), [1] * 40, 8, 3, task)
    assert [step[:2] for step in task.steps] == [(1, 3), (2, 3), (3, 3)]
    assert task.steps[-1][2] == f"PPL {found.perplexity:.4f}"


def test_a_model_with_a_nan_stops_at_the_first_chunk(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "nan.gguf", TinyShape(), bad_tensor="output_norm.weight")
    with (
        LlamaRuntime(path, RunSettings(n_ctx=64)) as broken,
        pytest.raises(QualityError, match=r"chunk 1 of 5 \(tokens 0 to 31\): the model's logits are not finite"),
    ):
        measure_perplexity(broken, [5] * 160, 32)


def test_a_nan_in_a_later_chunk_is_named(tmp_path: Path) -> None:
    # The NaN lies in the embedding of token 0, which stands in the third chunk only.
    path = write_tiny_model(tmp_path / "nan.gguf", TinyShape(), bad_tensor="token_embd.weight")
    tokens = [5] * 160
    tokens[70] = 0
    with (
        LlamaRuntime(path, RunSettings(n_ctx=64)) as broken,
        pytest.raises(QualityError, match=r"chunk 3 of 5 \(tokens 64 to 95\)") as caught,
    ):
        measure_perplexity(broken, tokens, 32)
    assert caught.value.exit_code == 1
