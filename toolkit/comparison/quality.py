"""Measure models on the same chunks of the same texts, against a base that is evaluated once."""

import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy

from toolkit.comparison.figures import divergence_figures
from toolkit.comparison.rows import Quality, TextKey
from toolkit.errors import InputError
from toolkit.llama.run_settings import RunSettings
from toolkit.llama.runtime import LlamaRuntime
from toolkit.measures.chunks import Chunks, chunks_together, cut_chunks
from toolkit.measures.divergence import BaseLogits, LiveBase, SavedBase, check_vocabularies, measure_divergence
from toolkit.measures.divergence_statistics import Divergence, Doubles, Estimate, TokenScores
from toolkit.measures.evaluation_text import EvaluationText, tokens_of
from toolkit.measures.logits_file import SaveAs, logits_bytes, measure_and_save, read_logits
from toolkit.measures.perplexity import Perplexity, measure_perplexity
from toolkit.reporter import LOGGING, SILENT_TASK, Reporter, Task

SCRATCH_BYTES = 8 << 30
"""The base's logits are kept in a file up to this size; larger ones are computed again beside every model."""


@dataclass(frozen=True)
class TextRequest:
    """A text, the kind that it is declared to be, and how it is cut."""

    kind: str
    text: EvaluationText
    n_ctx_seq: int
    max_chunks: int | None = None


@dataclass(frozen=True)
class ModelFile:
    """A file, made when it is first asked for, and how to load it with a context."""

    name: str
    path: Callable[[], Path]
    settings: Callable[[int, int], RunSettings]
    """for so many tokens in a sequence, and so many sequences side by side"""

    def load(self, request: TextRequest) -> LlamaRuntime:
        """Load it for the chunks of a text, as many side by side as llama-perplexity takes."""
        together = chunks_together(request.n_ctx_seq, request.max_chunks)
        return LlamaRuntime(self.path(), self.settings(request.n_ctx_seq, together))


@dataclass(frozen=True)
class _Evaluated:
    """What is remembered of the base on one text."""

    n_vocab: int
    tokens: Sequence[int]
    logits: Path | None
    """None where the file would be too large"""
    quality: Quality


class BaseModel:
    """The unquantized model. Its logits of a text are kept in a scratch file, so that it is evaluated once for all rows.

    Where that file would be too large the base runs in lockstep with each row instead, in bounded memory.
    """

    def __init__(self, model_file: ModelFile, folder: Path, reporter: Reporter = LOGGING) -> None:
        self._model_file, self._folder, self._reporter = model_file, folder, reporter
        self._evaluated: dict[TextRequest, _Evaluated] = {}

    def quality(self, request: TextRequest) -> Quality:
        """Return its own perplexity on a text.

        Raises TextError if the text is too short, QualityError if its logits are not finite.
        """
        return self._on(request).quality

    def refusal(self, runtime: LlamaRuntime, request: TextRequest, tokens: Sequence[int]) -> str:
        """Return why a model cannot be compared with it on a text; nothing where it can."""
        known = self._on(request)
        try:
            check_vocabularies(runtime, known, tokens, known.tokens)
        except InputError as error:
            return str(error)
        return ""

    @contextmanager
    def logits(self, request: TextRequest) -> Iterator[BaseLogits]:
        """Give its logits of a text."""
        known = self._on(request)
        if known.logits is not None:
            yield SavedBase(read_logits(known.logits))
            return
        with self._model_file.load(request) as runtime:
            yield LiveBase(runtime)

    def _on(self, request: TextRequest) -> _Evaluated:
        if request not in self._evaluated:
            with self._model_file.load(request) as runtime:
                self._evaluated[request] = self._evaluate(runtime, request)
        return self._evaluated[request]

    def _evaluate(self, runtime: LlamaRuntime, request: TextRequest) -> _Evaluated:
        tokens, chunks = _chunks(runtime, request)
        needed = logits_bytes(chunks, runtime.n_vocab)
        scratch = self._folder / f"{len(self._evaluated)}.logits"
        fits = needed <= min(SCRATCH_BYTES, shutil.disk_usage(self._folder).free // 2)
        with self._reporter.task(f"base on {request.text.name}") as task:
            if fits:
                result = measure_and_save(runtime, chunks, SaveAs(scratch), task)
            else:
                result = measure_perplexity(runtime, tokens, request.n_ctx_seq, request.max_chunks, task)
        quality = _quality(request, runtime, tokens, result)
        return _Evaluated(runtime.n_vocab, tokens, scratch if fits else None, quality)


def measure_quality(
    model_file: ModelFile, request: TextRequest, base: BaseModel | None = None, reporter: Reporter = LOGGING
) -> Quality:
    """Return the perplexity of a model on a text, and how far it is from the base if there is one with its vocabulary.

    Raises what loading and measuring raise.
    """
    with model_file.load(request) as runtime, reporter.task(f"{model_file.name} on {request.text.name}") as task:
        return quality_of(runtime, request, base, task)


def quality_of(
    runtime: LlamaRuntime, request: TextRequest, base: BaseModel | None = None, task: Task = SILENT_TASK
) -> Quality:
    """Return the same of a model that is loaded already."""
    tokens, chunks = _chunks(runtime, request)
    refusal = base.refusal(runtime, request, tokens) if base is not None else ""
    if base is None or refusal:
        result = measure_perplexity(runtime, tokens, request.n_ctx_seq, request.max_chunks, task)
        return replace(_quality(request, runtime, tokens, result), not_comparable=refusal)
    with base.logits(request) as logits:
        diverged, values = _diverged(runtime, logits, chunks, task)
    key = _key(request, runtime.n_vocab, tokens, chunks.count)
    return Quality(
        request.kind, request.text.name, key, diverged.tokens, diverged.perplexity, divergence_figures(diverged, values)
    )


def _diverged(
    runtime: LlamaRuntime, logits: BaseLogits, chunks: Chunks, task: Task
) -> tuple[Divergence, list[Doubles]]:
    values: list[Doubles] = []

    def keep_values(scores: Sequence[TokenScores]) -> bool:
        values.append(scores[0].divergence)
        return False

    return measure_divergence(runtime, logits, chunks, task, keep_values), values


def _chunks(runtime: LlamaRuntime, request: TextRequest) -> tuple[list[int], Chunks]:
    tokens = tokens_of(runtime, request.text)
    return tokens, cut_chunks(tokens, request.n_ctx_seq, request.max_chunks)


def _quality(request: TextRequest, runtime: LlamaRuntime, tokens: Sequence[int], perplexity: Perplexity) -> Quality:
    key = _key(request, runtime.n_vocab, tokens, perplexity.chunks)
    estimate = Estimate(perplexity.perplexity, perplexity.standard_error)
    return Quality(request.kind, request.text.name, key, perplexity.tokens, estimate)


def _key(request: TextRequest, n_vocab: int, tokens: Sequence[int], chunks: int) -> TextKey:
    digest = hashlib.sha256(numpy.asarray([n_vocab, *tokens], "<i4").tobytes()).hexdigest()
    return TextKey(request.text.sha256, request.n_ctx_seq, chunks, digest)
