import math
import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
from recorded_task import RecordedTask
from tiny_model import TinyShape, write_tiny_model

from toolkit.errors import InputError, QualityError
from toolkit.llama.evaluation import Logits
from toolkit.llama.run_settings import RunSettings
from toolkit.llama.runtime import LlamaRuntime
from toolkit.measures.chunks import cut_chunks
from toolkit.measures.divergence import (
    LiveBase,
    SavedBase,
    check_vocabularies,
    measure_divergence,
    measure_divergences,
    score_rows,
)
from toolkit.measures.divergence_statistics import Divergence, TokenScores, percentile, summarize
from toolkit.measures.logits_file import SaveAs, logits_writer, measure_and_save, read_logits, store_logits
from toolkit.measures.perplexity import measure_perplexity

TEXT = "the art of war and an inner sea. " * 30
SETTINGS = RunSettings(n_ctx=32, n_batch=24, n_ubatch=24, n_threads=1)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaRuntime]:
    with LlamaRuntime(write_tiny_model(tmp_path_factory.mktemp("model") / "base.gguf"), SETTINGS) as loaded:
        yield loaded


class NoisyRuntime:
    """Another runtime with noise on its logits."""

    def __init__(self, runtime: LlamaRuntime, noise: float) -> None:
        self._runtime, self._noise = runtime, noise
        self._random = numpy.random.default_rng(5)
        self.n_ctx, self.n_vocab, self.bos_token = runtime.n_ctx, runtime.n_vocab, runtime.bos_token
        self.n_parallel = runtime.n_parallel

    def clear(self) -> None:
        self._runtime.clear()

    def rewind(self, n_tokens: int) -> bool:
        raise NotImplementedError

    def feed(self, tokens: Sequence[int]) -> None:
        self._runtime.feed(tokens)

    def evaluate_chunks(self, chunks: Sequence[Sequence[int]], logits_for: slice) -> Iterator[tuple[int, int, Logits]]:
        for index, position, logits in self._runtime.evaluate_chunks(chunks, logits_for):
            yield index, position, logits + self._random.normal(0, self._noise, logits.shape).astype(numpy.float32)


@pytest.fixture(scope="module")
def saved(base: LlamaRuntime, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("logits") / "base.logits"
    measure_and_save(base, cut_chunks(base.tokenize(TEXT), 32), SaveAs(path))
    return path


def against(saved: Path, base: LlamaRuntime, noise: float) -> Divergence:
    file = read_logits(saved)
    return measure_divergence(NoisyRuntime(base, noise), SavedBase(file), file.chunks)


def test_divergence_follows_the_definition_in_64_bits() -> None:
    random = numpy.random.default_rng(1)
    base_logits, logits = (random.normal(0, 2, (20, 200)).astype(numpy.float32) for _ in range(2))
    targets = random.integers(0, 200, 20)
    scores = score_rows(logits, store_logits(base_logits), targets)
    log_p, log_q = (each - numpy.log(numpy.exp(each).sum(1, keepdims=True)) for each in
                    (base_logits.astype(float), logits.astype(float)))  # fmt: skip
    rows = numpy.arange(20)
    numpy.testing.assert_allclose(scores.divergence, (numpy.exp(log_p) * (log_p - log_q)).sum(1), rtol=1e-4)
    numpy.testing.assert_allclose(scores.nll, -log_q[rows, targets], rtol=1e-5)
    numpy.testing.assert_allclose(scores.base_nll, -log_p[rows, targets], atol=2e-4)
    numpy.testing.assert_array_equal(scores.same_top, base_logits.argmax(1) == logits.argmax(1))
    expected = numpy.exp(log_q[rows, targets]) - numpy.exp(log_p[rows, targets])
    numpy.testing.assert_allclose(scores.delta_p, expected, atol=1e-4)


def test_a_model_diverges_from_itself_by_no_more_than_its_storage(base: LlamaRuntime, saved: Path) -> None:
    found = against(saved, base, 0)
    assert 0 < found.rounding < 16 / 65535
    assert abs(found.divergence.mean.value) < found.rounding
    assert found.same_top.value == pytest.approx(1, abs=0.01)
    assert found.perplexity_ratio.value == pytest.approx(1, abs=1e-4)


def test_more_noise_diverges_more(base: LlamaRuntime, saved: Path) -> None:
    little, much = against(saved, base, 0.05), against(saved, base, 0.5)
    assert 0 < little.divergence.mean.value < much.divergence.mean.value
    assert little.same_top.value > much.same_top.value
    assert little.rms_delta_p.value < much.rms_delta_p.value


def test_lockstep_and_a_file_of_base_logits_agree_and_lockstep_can_write_it(
    base: LlamaRuntime, saved: Path, tmp_path: Path
) -> None:
    path = write_tiny_model(tmp_path / "m.gguf", TinyShape(n_layer=2))
    chunks = cut_chunks(base.tokenize(TEXT), 32, 5)
    with LlamaRuntime(path, SETTINGS) as runtime, logits_writer(tmp_path / "l", chunks, base.n_vocab) as writer:
        live = measure_divergence(runtime, LiveBase(base, writer), chunks)
        from_file = measure_divergence(runtime, SavedBase(read_logits(saved)), chunks)
    assert live == from_file
    assert (live.chunks, live.tokens, live.n_ctx_seq) == (5, 75, 32)
    again = read_logits(tmp_path / "l")
    numpy.testing.assert_array_equal(again.data, read_logits(saved).data[:5])


def test_two_models_beside_each_other_diverge_as_each_does_alone(
    base: LlamaRuntime, saved: Path, tmp_path: Path
) -> None:
    paths = [write_tiny_model(tmp_path / f"{n}.gguf", TinyShape(n_layer=n)) for n in (1, 2)]
    chunks, file = cut_chunks(base.tokenize(TEXT), 32, 4), read_logits(saved)
    with LlamaRuntime(paths[0], SETTINGS) as one, LlamaRuntime(paths[1], SETTINGS) as other:
        together = measure_divergences((one, other), LiveBase(base), chunks)
        from_file = measure_divergences((one, other), SavedBase(file), chunks)
        alone = tuple(measure_divergence(model, LiveBase(base), chunks) for model in (one, other))
    assert together == from_file == alone
    assert together[0] != together[1]


def test_the_perplexity_is_that_of_the_perplexity_command(base: LlamaRuntime, saved: Path) -> None:
    found, alone = against(saved, base, 0), measure_perplexity(base, base.tokenize(TEXT), 32)
    assert found.perplexity.value == pytest.approx(alone.perplexity, rel=1e-6)
    assert found.perplexity.error == pytest.approx(alone.standard_error, rel=1e-4)


def test_whoever_gets_every_chunk_may_end_the_measurement(base: LlamaRuntime, saved: Path) -> None:
    seen: list[int] = []

    def on_chunk(scores: Sequence[TokenScores]) -> bool:
        seen.extend(len(model.nll) for model in scores)
        return len(seen) == 3

    file = read_logits(saved)
    assert measure_divergence(base, SavedBase(file), file.chunks, on_chunk=on_chunk).chunks == 3
    assert seen == [15, 15, 15]


def test_progress_shows_the_mean_divergence_so_far(base: LlamaRuntime, saved: Path) -> None:
    file, task = read_logits(saved), RecordedTask()
    found = measure_divergence(NoisyRuntime(base, 0.1), SavedBase(file), file.chunks, task)
    assert [step[:2] for step in task.steps] == [(done, found.chunks) for done in range(1, found.chunks + 1)]
    assert task.steps[0][2] == f"KLD {found.per_chunk[0].divergence:.6f}"
    assert float(task.steps[-1][2].removeprefix("KLD ")) == pytest.approx(found.divergence.mean.value, abs=1e-6)


def test_chunks_may_be_visited_in_any_order(base: LlamaRuntime, saved: Path) -> None:
    file = read_logits(saved)
    count = file.chunks.count
    straight = measure_divergence(NoisyRuntime(base, 0), SavedBase(file), file.chunks)
    backwards = measure_divergence(
        NoisyRuntime(base, 0), SavedBase(file), replace(file.chunks, order=range(count)[::-1])
    )
    assert backwards.per_chunk == straight.per_chunk[::-1]
    assert backwards.divergence.maximum == straight.divergence.maximum


def test_nan_stops_at_its_chunk(saved: Path, tmp_path: Path) -> None:
    path, file = write_tiny_model(tmp_path / "nan.gguf", bad_tensor="output.weight"), read_logits(saved)
    with (
        LlamaRuntime(path, SETTINGS) as broken,
        pytest.raises(QualityError, match=r"chunk 1 of \d+ \(tokens 0 to 31\): logits are not finite"),
    ):
        measure_divergence(broken, SavedBase(file), file.chunks)


def test_other_vocabularies_are_refused(base: LlamaRuntime) -> None:
    class Other:
        n_vocab = 5

    with pytest.raises(InputError, match="the vocabularies differ: 5 tokens, and 297 of the base"):
        check_vocabularies(Other(), base, [1], [1])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="3 tokens, and 3 in the base, the first that differs is number 2"):
        check_vocabularies(base, base, [1, 2, 3], [1, 2, 4])


def scores_of(count: int) -> TokenScores:
    random = numpy.random.default_rng(2)
    nll = random.gamma(2, 1, count).astype(numpy.float32)
    base_nll = (nll + random.normal(0, 0.1, count)).astype(numpy.float32)
    return TokenScores(nll, base_nll, random.gamma(1, 0.01, count), random.random(count) > 0.1, nll * 0)


def test_statistics_are_those_of_the_tokens() -> None:
    scores = scores_of(5000)
    found = summarize([scores], 512)
    ratio = scores.nll.astype(float) - scores.base_nll
    assert found.log_ratio.value == pytest.approx(ratio.mean(), rel=1e-6)
    assert found.log_ratio.error == pytest.approx(ratio.std() / math.sqrt(4999), rel=1e-3)
    assert found.divergence.mean.error == pytest.approx(scores.divergence.std() / math.sqrt(4999))
    assert found.rms_delta_p.value == pytest.approx(math.sqrt((scores.delta_p.astype(float) ** 2).mean()), rel=1e-5)
    assert found.correlation == pytest.approx(numpy.corrcoef(scores.nll, scores.base_nll)[0, 1], rel=1e-3)
    share = scores.same_top.mean()
    assert found.same_top.error == pytest.approx(math.sqrt(share * (1 - share) / 4999))


def test_percentiles_lie_between_two_values() -> None:
    ordered = numpy.sort(numpy.random.default_rng(0).random(777).astype(numpy.float32))
    for fraction in (0.001, 0.5, 0.9, 0.999):
        assert percentile(ordered, fraction) == pytest.approx(float(numpy.quantile(ordered, fraction)), abs=1e-6)
    assert percentile(ordered[:1], 0.5) == float(ordered[0])


def test_few_tokens_have_no_error_rather_than_a_wrong_one() -> None:
    assert summarize([scores_of(8)], 16).divergence.mean.error == 0


class LargeRuntime:
    """A runtime that gives a chunk in small batches of made-up logits, each in the same memory."""

    n_parallel, bos_token, n_batch = 1, None, 32

    def __init__(self, n_ctx: int, n_vocab: int) -> None:
        self.n_ctx, self.n_vocab = n_ctx, n_vocab
        self._logits = numpy.random.default_rng(0).normal(0, 1, (self.n_batch, n_vocab)).astype(numpy.float32)

    def clear(self) -> None:
        pass

    def rewind(self, n_tokens: int) -> bool:
        raise NotImplementedError

    def feed(self, tokens: Sequence[int]) -> None:
        raise NotImplementedError

    def evaluate_chunks(self, chunks: Sequence[Sequence[int]], logits_for: slice) -> Iterator[tuple[int, int, Logits]]:
        wanted = range(len(chunks[0]))[logits_for]
        for position in range(wanted.start, wanted.stop, self.n_batch):
            yield 0, position, self._logits[: min(self.n_batch, wanted.stop - position)]


def peak_bytes(n_ctx: int, n_vocab: int, folder: Path) -> int:
    """Return the most that a comparison of two models takes besides what they hold, saving the base's logits."""
    chunks = cut_chunks([1] * 2 * n_ctx, n_ctx, 1)
    runtime, base = LargeRuntime(n_ctx, n_vocab), LargeRuntime(n_ctx, n_vocab)
    with logits_writer(folder / "l", chunks, n_vocab, force=True) as writer:
        tracemalloc.start()
        try:
            measure_divergence(runtime, LiveBase(base, writer), chunks)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()


def test_memory_is_that_of_a_batch_however_long_the_chunk(tmp_path: Path) -> None:
    short, long = (peak_bytes(n_ctx, 5_000, tmp_path) for n_ctx in (256, 4096))
    # Scores of tokens grow with the chunk, by some dozens of bytes each.
    assert long - short < 4096 * 200
    assert long < 2047 * 5_000 * 4 / 4


def test_the_largest_vocabularies_take_less_than_a_gibibyte_whatever_the_context(tmp_path: Path) -> None:
    # What a batch takes does not depend on the chunk, as the test above shows; llama.cpp's batches have 512 rows.
    n_vocab, batch = 152_064, LargeRuntime.n_batch
    peak = peak_bytes(2 * batch + 2, n_vocab, tmp_path)
    stored = 2 * n_vocab
    assert peak - batch * stored + 512 * stored < 1 << 30
