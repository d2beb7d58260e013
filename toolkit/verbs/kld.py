"""`kld`: how far the predictions of a GGUF file are from those of its base, in llama-perplexity's numbers."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path

from toolkit.errors import InputError
from toolkit.gguf.output_file import check_output
from toolkit.measures.chunks import Chunks, cut_chunks
from toolkit.measures.divergence import (
    BaseLogits,
    LiveBase,
    OnChunk,
    SavedBase,
    check_vocabularies,
    measure_divergences,
)
from toolkit.measures.divergence_statistics import Divergence, TokenScores, chunk_scores
from toolkit.measures.evaluation_text import tokens_of
from toolkit.measures.logits_file import logits_writer, read_logits
from toolkit.measures.paired import (
    ModelScores,
    Question,
    Verdict,
    judge,
    mean_divergence_at_most,
    no_farther_than,
    perplexity_increase_at_most,
    random_order,
    same_top_at_least,
)
from toolkit.planning.load_plan import LoadedBytes
from toolkit.reporter import Reporter
from toolkit.verbs.devices import PathName
from toolkit.verbs.evaluation import (
    TextFields,
    TextIdentity,
    evaluation_text,
    identity_of,
    load_for_chunks,
    naming_bad_weights,
)
from toolkit.verbs.loading import HowToLoad, LoadedFile, load_file
from toolkit.verbs.values import NotNegativeFloat
from toolkit.verbs.verb import verb

_CHUNKS_TO_DECIDE = 5


@dataclass(frozen=True)
class KldRequest(TextFields):
    """A GGUF file, its base, and the thresholds that the divergence should keep."""

    gguf: Path | str
    _: KW_ONLY
    base: Path | str | None = None
    """the unquantized model, evaluated in lockstep"""
    base_logits: PathName | None = None
    """its logits in a file, instead; then chunks and tokens are the file's, and text and n_ctx_seq are only compared with them"""
    base_kv: str = "f16"
    """type of the base's KV cache"""
    save_logits: PathName | None = None
    """file for the base's logits"""
    force: bool = False
    """replace an existing file"""
    max_kld: NotNegativeFloat | None = None
    """threshold of the mean divergence, in nats"""
    max_ppl_increase: float | None = None
    """threshold of the increase of the perplexity, in per cent"""
    min_same_top: NotNegativeFloat | None = None
    """threshold of the share of tokens where both models rank the same first, in per cent"""
    against: PathName | None = None
    """another GGUF file, than which this one should not diverge more"""
    until_decided: bool = False
    """take chunks in random order, and stop as soon as all thresholds are decided for the whole text"""

    @property
    def models(self) -> list[Path]:
        """Return what is compared with the base, that which is judged first."""
        return [Path(self.gguf), *([] if self.against is None else [Path(self.against)])]

    @property
    def questions(self) -> list[Question]:
        """Return what the thresholds ask.

        Raises InputError for a threshold that no measurement can meet, or if there is nothing to decide.
        """
        questions = []
        if self.max_kld is not None:
            questions.append(mean_divergence_at_most(self.max_kld))
        if self.max_ppl_increase is not None:
            if not self.max_ppl_increase > -100:
                raise InputError(
                    f"--max-ppl-increase {self.max_ppl_increase:g}: a perplexity cannot fall by 100 per cent; give a larger number"
                )
            questions.append(perplexity_increase_at_most(self.max_ppl_increase / 100))
        if self.min_same_top is not None:
            questions.append(same_top_at_least(self.min_same_top / 100))
        if self.against is not None:
            questions.append(no_farther_than(Path(self.against).name))
        if self.until_decided and not questions:
            raise InputError(
                "--until-decided needs something to decide: --max-kld, --max-ppl-increase, --min-same-top or --against"
            )
        return questions


@dataclass(frozen=True)
class MeasuredDivergence:
    """The divergence of one file from the base, and what each device held of it."""

    gguf: Path
    divergence: Divergence
    devices: tuple[LoadedBytes, ...]


@dataclass(frozen=True)
class KldResult:
    """The divergence of a file from its base, that of another file beside it, and what the thresholds say."""

    measured: MeasuredDivergence
    against: MeasuredDivergence | None
    base: Path
    """the base, or the file with its logits"""
    base_devices: tuple[LoadedBytes, ...] | None
    """None with saved logits"""
    text: TextIdentity
    verdict: Verdict | None
    """None where no threshold was given"""
    seconds: float

    @property
    def mean_kld(self) -> float:
        """Return the mean Kullback-Leibler divergence from the base, in nats per token."""
        return self.measured.divergence.divergence.mean.value


@verb(KldRequest)
def kld(request: KldRequest, reporter: Reporter) -> KldResult:
    """Measure the Kullback-Leibler divergence of a GGUF file from its base, in lockstep and bounded memory.

    ```python
    result = toolkit.kld("model-Q4_K_M.gguf", base="model-BF16.gguf", chunks=100, max_kld=0.05)
    print(result.mean_kld, result.verdict.holds)
    ```

    A threshold that is not kept is a verdict, not an error. Raises GgufError for a file that llama.cpp refuses, InputError
    for models of different vocabularies, TextError for a text that is too short, DoesNotFitError if the models do not fit,
    NotFiniteError if logits are NaN or infinite.
    """
    _check(request)
    questions, started = request.questions, time.perf_counter()
    bases = [Path(request.base)] if request.base is not None else []
    with naming_bad_weights([*request.models, *bases]), ExitStack() as stack:
        measured = _in_lockstep if request.base is not None else _against_saved_logits
        results, available, about = measured(request, reporter, stack)
    verdict = judge(_scores(results), questions, available) if questions else None
    first, *others = results
    return KldResult(first, others[0] if others else None, *about, verdict, time.perf_counter() - started)


def _check(request: KldRequest) -> None:
    if (request.base is None) == (request.base_logits is None):
        raise InputError("give either --base BASE.gguf or --base-logits FILE")
    if request.save_logits is not None and request.base is None:
        raise InputError("--save-logits keeps the logits of --base; with --base-logits there is nothing to save")
    if request.save_logits is not None and request.until_decided:
        raise InputError("--save-logits needs every chunk, but --until-decided stops before; give one of them")
    if request.save_logits is not None:
        check_output(Path(request.save_logits), force=request.force)


def _scores(results: Sequence[MeasuredDivergence]) -> list[ModelScores]:
    """Return the scores of every chunk, of all models."""
    return list(zip(*(result.divergence.per_chunk for result in results), strict=True))


_About = tuple[Path, tuple[LoadedBytes, ...] | None, TextIdentity]
_Measured = tuple[list[MeasuredDivergence], int, _About]
"""results, chunks that there were, and the base, its devices and the text"""


def _in_lockstep(request: KldRequest, reporter: Reporter, stack: ExitStack) -> _Measured:
    assert request.base is not None
    base_path, n_ctx_seq = Path(request.base), request.chunk_tokens
    text = evaluation_text(request, base_path)
    how = load_for_chunks(request, n_ctx_seq, _at_once(request))
    models = _load_models(request, how, n_ctx_seq, reporter, stack)
    how_base = replace(how, kv=request.base_kv)
    base = stack.enter_context(load_file(base_path, how_base, n_ctx_seq, reporter, models))
    tokens = tokens_of(base.runtime, text)
    for model, path in zip(models, request.models, strict=True):
        own_text = evaluation_text(request, path) if text.is_chat else text
        check_vocabularies(model.runtime, base.runtime, tokens_of(model.runtime, own_text), tokens)
    chunks, writer = cut_chunks(tokens, n_ctx_seq, request.chunks), None
    if request.save_logits is not None:
        writer = stack.enter_context(
            logits_writer(Path(request.save_logits), chunks, base.runtime.n_vocab, force=request.force)
        )
    results = _compare(models, LiveBase(base.runtime, writer), chunks, request, reporter)
    return results, chunks.count, (base_path, base.devices, identity_of(text))


def _against_saved_logits(request: KldRequest, reporter: Reporter, stack: ExitStack) -> _Measured:
    assert request.base_logits is not None
    base_logits = Path(request.base_logits)
    file = read_logits(base_logits)
    is_given = request.text is not None or request.as_chat or request.chat_template is not None
    text = evaluation_text(request, Path(request.gguf)) if is_given else None
    n_ctx_seq, count = file.chunks.n_ctx_seq, min(file.chunks.count, request.chunks or file.chunks.count)
    how = load_for_chunks(request, n_ctx_seq, _at_once(request) or count)
    models = _load_models(request, how, n_ctx_seq, reporter, stack)
    for model in models:
        tokens = tokens_of(model.runtime, text) if text is not None else None
        file.check(model.runtime.n_vocab, request.n_ctx_seq, tokens)
    chunks = Chunks(file.chunks.tokens, n_ctx_seq, count)
    results = _compare(models, SavedBase(file), chunks, request, reporter)
    return results, chunks.count, (base_logits, None, identity_of(text))


def _load_models(
    request: KldRequest, how: HowToLoad, n_ctx_seq: int, reporter: Reporter, stack: ExitStack
) -> list[LoadedFile]:
    """Load what is compared, one beside the other."""
    models: list[LoadedFile] = []
    for path in request.models:
        models.append(stack.enter_context(load_file(path, how, n_ctx_seq, reporter, models)))
    return models


def _at_once(request: KldRequest) -> int | None:
    """Return how many chunks may be evaluated side by side: few where each may be the last that is needed."""
    return min(_CHUNKS_TO_DECIDE, request.chunks or _CHUNKS_TO_DECIDE) if request.until_decided else request.chunks


def _compare(
    models: list[LoadedFile], base: BaseLogits, chunks: Chunks, request: KldRequest, reporter: Reporter
) -> list[MeasuredDivergence]:
    questions = request.questions if request.until_decided else []
    visited = replace(chunks, order=random_order(chunks.count)) if request.until_decided else chunks
    with reporter.task("divergence") as task:
        runtimes = [model.runtime for model in models]
        divergences = measure_divergences(runtimes, base, visited, task, _until_decided(chunks.count, questions))
    return [
        MeasuredDivergence(path, divergence, model.devices)
        for path, divergence, model in zip(request.models, divergences, models, strict=True)
    ]


def _until_decided(total: int, questions: list[Question]) -> OnChunk | None:
    """Return what ends the measurement once all questions are decided; None where there are none."""
    if not questions:
        return None
    seen: list[ModelScores] = []

    def is_decided(scores: Sequence[TokenScores]) -> bool:
        seen.append([chunk_scores(model) for model in scores])
        return judge(seen, questions, total).outcome != "undecided"

    return is_decided
