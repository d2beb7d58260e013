"""How far a model's predictions are from a base model's: Kullback-Leibler divergence and what goes with it.

The base's log-probabilities pass through the 16 bits of llama-perplexity's file format even where no file is written,
so that every number equals that of `llama-perplexity --kl-divergence`. The price is a floor: the divergence of a model
from itself is not exactly 0. Source: `kl_divergence()` in tools/perplexity/perplexity.cpp of llama.cpp (commit 0c1e570).
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy
from numpy.typing import NDArray

from toolkit.differences import first_difference
from toolkit.errors import InputError, QualityError
from toolkit.llama.evaluation import Logits, Runtime
from toolkit.machine.host import physical_cores
from toolkit.measures.chunks import Chunks, evaluate_group
from toolkit.measures.divergence_statistics import Divergence, TokenScores, join_scores, summarize
from toolkit.measures.logits_file import LogitsFile, LogitsWriter, StoredLogits, store_logits
from toolkit.measures.softmax import exponentials, log_sum, row_spans
from toolkit.reporter import SILENT_TASK, Task

_LEAST_LOG_PROBABILITY = numpy.float32(-16)
OnChunk = Callable[[Sequence[TokenScores]], bool]
"""gets every model's scores of a chunk that is done; True ends the measurement"""


class BaseLogits(Protocol):
    """Where the base model's log-probabilities come from."""

    @property
    def n_parallel(self) -> int:
        """Return how many chunks it can give side by side."""
        ...

    def begin(self, chunks: Chunks, group: Sequence[int]) -> None:
        """Go to the first scored positions of some chunks."""
        ...

    def rows(self, chunk: int, first: int, count: int, pool: Executor) -> StoredLogits:
        """Return `count` rows of a chunk from its row `first` on, in the order of a runtime's `evaluate_chunks`."""
        ...


class LiveBase:
    """A base model that is evaluated in lockstep, batch by batch, so that no base file is needed."""

    def __init__(self, runtime: Runtime, writer: LogitsWriter | None = None) -> None:
        self._runtime = runtime
        self._writer = writer
        self._batches: Iterator[tuple[int, int, Logits]] = iter(())

    @property
    def n_parallel(self) -> int:
        """Return how many chunks the model evaluates side by side."""
        return self._runtime.n_parallel

    def begin(self, chunks: Chunks, group: Sequence[int]) -> None:
        """Start chunks on an empty memory."""
        self._batches = evaluate_group(self._runtime, chunks, group, chunks.scored)

    def rows(self, chunk: int, first: int, count: int, pool: Executor) -> StoredLogits:
        """Evaluate the next batch, which has the same size as the other model's."""
        _, _, logits = next(self._batches)
        if len(logits) != count:
            raise ValueError(f"the base model gave {len(logits)} rows in a batch, the other model {count}")
        rows = store_logits(logits, pool)
        if self._writer is not None:
            self._writer.write(chunk, first, rows)
        return rows


class SavedBase:
    """A base model's logits in a file."""

    def __init__(self, file: LogitsFile) -> None:
        self._file = file

    @property
    def n_parallel(self) -> int:
        """Return the number of all chunks, since any can be read at any time."""
        return self._file.chunks.count

    def begin(self, chunks: Chunks, group: Sequence[int]) -> None:
        """Do nothing: rows can be read in any order."""

    def rows(self, chunk: int, first: int, count: int, pool: Executor) -> StoredLogits:  # noqa: ARG002  # a file reads
        """Read rows."""
        return self._file.rows(chunk, first, count)


class HasVocabulary(Protocol):
    """A loaded model, or what is remembered of one."""

    @property
    def n_vocab(self) -> int:
        """Return the number of tokens in the vocabulary."""
        ...


def check_vocabularies(
    runtime: HasVocabulary, base: HasVocabulary, tokens: Sequence[int], base_tokens: Sequence[int]
) -> None:
    """Refuse two models whose predictions cannot be compared.

    Raises InputError if the vocabularies differ in size, or make other tokens of the text.
    """
    if runtime.n_vocab != base.n_vocab:
        raise InputError(
            f"the vocabularies differ: {runtime.n_vocab:,} tokens, and {base.n_vocab:,} of the base; "
            "only models with the same vocabulary can be compared"
        )
    at = first_difference(tokens, base_tokens)
    if at is not None:
        raise InputError(
            f"the vocabularies differ: the text has {len(tokens):,} tokens, and {len(base_tokens):,} in the base, "
            f"the first that differs is number {at:,}; only models with the same vocabulary can be compared"
        )


def measure_divergence(
    runtime: Runtime,
    base: BaseLogits,
    chunks: Chunks,
    task: Task = SILENT_TASK,
    on_chunk: OnChunk | None = None,
) -> Divergence:
    """Return the divergence of one model from a base, as `measure_divergences` does."""
    return measure_divergences((runtime,), base, chunks, task, on_chunk)[0]


def measure_divergences(
    runtimes: Sequence[Runtime],
    base: BaseLogits,
    chunks: Chunks,
    task: Task = SILENT_TASK,
    on_chunk: OnChunk | None = None,
) -> tuple[Divergence, ...]:
    """Return the divergence of each model from a base on the same chunks of text, visited in their order.

    The task shows the chunks done and the first model's mean divergence so far.

    Memory: the logits of one batch in each model, the base's again in 16 bits, and a few MiB a thread; never a chunk.

    Raises QualityError at the first chunk whose logits are not finite.
    """
    scores: list[Sequence[TokenScores]] = []
    total = 0.0
    with ThreadPoolExecutor(physical_cores()) as pool:
        for index, chunk in _scored_chunks(_Lockstep(runtimes, base, chunks, pool)):
            if not all(model.are_finite for model in chunk):
                raise QualityError(
                    f"{chunks.describe(index)}: logits are not finite, so there is no divergence; "
                    "a weight is NaN or infinite, or too large for the KV cache's type"
                )
            scores.append(chunk)
            # Every chunk has as many tokens, so the mean of the means is the mean.
            total += float(chunk[0].divergence.mean())
            task.update(len(scores), chunks.count, f"KLD {total / len(scores):.6f}")
            if on_chunk is not None and on_chunk(chunk):
                break
    return tuple(summarize(model, chunks.n_ctx_seq) for model in zip(*scores, strict=True))


@dataclass(frozen=True)
class _Lockstep:
    """Models on the same chunks."""

    runtimes: Sequence[Runtime]
    base: BaseLogits
    chunks: Chunks
    pool: Executor


def _scored_chunks(models: _Lockstep) -> Iterator[tuple[int, list[TokenScores]]]:
    n_parallel = min(models.base.n_parallel, *(runtime.n_parallel for runtime in models.runtimes))
    for group in models.chunks.groups(n_parallel):
        yield from zip(group, _score_group(models, group), strict=True)


def _score_group(models: _Lockstep, group: Sequence[int]) -> list[list[TokenScores]]:
    """Return the scores of chunks that are evaluated side by side, for each chunk those of every model."""
    chunks = models.chunks
    models.base.begin(chunks, group)
    parts: list[list[list[TokenScores]]] = [[[] for _ in models.runtimes] for _ in group]
    runs = [evaluate_group(runtime, chunks, group, chunks.scored) for runtime in models.runtimes]
    for batches in zip(*runs, strict=True):
        place, position, logits = batches[0]
        index = group[place]
        stored = models.base.rows(index, position - chunks.first, len(logits), models.pool)
        targets = chunks.targets(index, position, len(logits))
        for part, (_, _, own_logits) in zip(parts[place], batches, strict=True):
            part.append(score_rows(own_logits, stored, targets, models.pool))
    return [[join_scores(part) for part in chunk] for chunk in parts]


def score_rows(
    logits: Logits, base: StoredLogits, targets: NDArray[numpy.int64], pool: Executor | None = None
) -> TokenScores:
    """Return the scores of every scored token, for logits float32 [n, n_vocab] and targets [n]."""
    spans = row_spans(*logits.shape)
    parts = [(logits[span], base.rows(span), targets[span]) for span in spans]
    return join_scores(list(pool.map(_score_part, parts) if pool is not None else map(_score_part, parts)))


def _score_part(part: tuple[Logits, StoredLogits, NDArray[numpy.int64]]) -> TokenScores:
    logits, base, targets = part
    picked = numpy.arange(len(targets)), targets
    with numpy.errstate(all="ignore"):
        top = logits.max(axis=1, keepdims=True)
        above = top + log_sum(logits, top)
        base_log = base.codes.astype(numpy.float32)
        numpy.multiply(base_log, base.scale, out=base_log)
        numpy.add(base_log, base.lowest, out=base_log)
        return TokenScores(
            nll=above[:, 0] - logits[picked],
            base_nll=-base_log[picked],
            same_top=logits.argmax(axis=1) == base.codes.argmax(axis=1),
            divergence=_divergences(logits, above, base_log),
            rounding=base.scale[:, 0] * numpy.float32(0.5),
        )


def _divergences(
    logits: Logits, above: NDArray[numpy.float32], base_log: NDArray[numpy.float32]
) -> NDArray[numpy.float64]:
    """Return float64 [n]: the sum over the vocabulary of p_base * (log p_base - log p), where log p is logits - above."""
    terms = base_log - logits
    numpy.add(terms, above, out=terms)
    numpy.multiply(terms, base_log > _LEAST_LOG_PROBABILITY, out=terms)
    numpy.multiply(terms, exponentials(base_log), out=terms)
    result: NDArray[numpy.float64] = terms.sum(axis=1, dtype=numpy.float64)
    return result
