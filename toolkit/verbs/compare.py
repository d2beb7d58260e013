"""`compare`: files side by side, what each takes and what it loses, and which one to take."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Literal

from toolkit.comparison.candidates import (
    Candidate,
    Conversions,
    candidate_from_file,
    candidate_from_profile,
    candidates_from_files,
    candidates_from_profiles,
)
from toolkit.comparison.machine import measured_on, this_machine
from toolkit.comparison.quality import TextRequest
from toolkit.comparison.rows import Comparison, Method
from toolkit.comparison.run import Job, measure_rows
from toolkit.comparison.store import ComparisonStore
from toolkit.conversion.convert import ConversionOptions
from toolkit.errors import InputError
from toolkit.machine.disk_cache import cache_folder
from toolkit.machine.host import physical_cores
from toolkit.machine.load import load_warnings
from toolkit.measures.evaluation_text import DEMO, as_chat, named_text
from toolkit.measures.token_rate import RateSettings
from toolkit.measures.verdict_rules import GENERAL, VerdictRules, read_verdict_rules
from toolkit.model_source import ModelSource, unquantized_profile
from toolkit.reporter import Reporter
from toolkit.sources.gguf_source import source_from_gguf
from toolkit.sources.hf_source import source_from_checkpoint
from toolkit.verbs.chat_templates import metadata_with_template
from toolkit.verbs.devices import PathName, open_memory_source
from toolkit.verbs.model_names import is_gguf, read_imatrix_for, report_warnings, resolve_source
from toolkit.verbs.planning import PlanningFields, planning_request, warn_of_long_context
from toolkit.verbs.values import Positive
from toolkit.verbs.verb import verb

CHAT = "chat"
LEAST_CHUNKS = 10
"""of texts in long chunks, which are fewer for the same number of tokens"""


@dataclass(frozen=True)
class CompareRequest(PlanningFields):
    """What is compared, on which texts, and for which budget."""

    models: Sequence[Path | str]
    """GGUF files, or one checkpoint with `profiles`"""
    _: KW_ONLY
    profiles: Sequence[str] = ()
    """convert the one model with each of these"""
    kv: Sequence[str] = ("f16",)
    """types of the KV cache: a row each"""
    base: PathName | None = None
    """the unquantized model; None is the model as it is"""
    imatrix: PathName | None = None
    """importance matrix for `profiles`"""
    texts: Sequence[str] = ()
    """texts, each FILE or KIND=FILE with what it is a sample of; none stands for the demo text"""
    as_chat: bool = False
    """take paragraphs of chat text as turns, in the model's own chat format"""
    chat_template: PathName | None = None
    """chat template in place of the model's own"""
    n_ctx_seq: Positive = 512
    """tokens of a chunk"""
    chunks: Positive = 40
    """chunks of each text"""
    n_prompt: Positive = 512
    """tokens of the prompt whose rate is measured"""
    n_generate: Positive = 128
    """tokens to generate"""
    repetitions: Positive = 3
    """measurements of each token rate"""
    rates: bool = True
    """measure token rates"""
    use: str | None = None
    """what the model is for: decides which file is advised"""
    verdicts: PathName | None = None
    """thresholds of your own (TOML)"""
    keep: PathName | None = None
    """folder for the files that `profiles` makes; None removes them"""
    fresh: bool = False
    """measure anew what is known from an earlier run"""
    force: bool = False
    """replace existing files in `keep`"""
    threads: Positive | None = None
    """CPU threads; None is the number of physical cores"""
    pre: str | None = None
    """name of the BPE pre-tokenizer, where it is not recognised"""
    norms: Literal["checked", "plain", "shifted"] = "checked"
    """whether norms that llama.cpp wants with 1 added have it already"""
    local_files_only: bool = False
    """for a model on the hub, use the copy in the cache"""
    command: str = ""
    """command line that reports name"""


@dataclass(frozen=True)
class CompareResult:
    """The rows of a comparison, and what they rest on."""

    comparison: Comparison

    @property
    def exit_code(self) -> int:
        """Return the exit code of the first file that failed, 0 if none did."""
        return next((row.exit_code for row in self.comparison.rows if row.error), 0)


@dataclass(frozen=True)
class _Entrants:
    """What takes part, and what it is called."""

    name: str
    candidates: tuple[Candidate, ...]
    base: Candidate | None


@verb(CompareRequest)
def compare(request: CompareRequest, reporter: Reporter) -> CompareResult:
    """Compare GGUF files, or profiles of one checkpoint: size, memory, perplexity, divergence, token rates, verdicts.

    ```python
    result = toolkit.compare(["checkpoint"], profiles=["q8_0", "q4_k_m"], vram="8GiB")
    print([(row.name, row.file_bytes) for row in result.comparison.rows])
    ```

    A file that fails is a row with an error, and the others go on. Raises InputError for requests that contradict themselves,
    what reading models, texts and thresholds raises, and what measuring the base raises.
    """
    rules = read_verdict_rules(None if request.verdicts is None else Path(request.verdicts))
    if request.use is not None and request.use not in [use.name for use in rules.use_cases]:
        raise InputError(f"--use {request.use!r} is not one of {', '.join(use.name for use in rules.use_cases)}")
    with ExitStack() as scratch:
        texts = _texts(request, rules)
        entrants = _entrants(request, reporter, scratch)
        if request.as_chat:
            texts = _chat_texts(texts, entrants.base or entrants.candidates[0], request.chat_template)
        elif request.chat_template:
            raise InputError("--chat-template is of use with --as-chat only")
        notes = tuple(_notes(entrants, request))
        job = _job(entrants, texts, request, reporter)
        for message in notes:
            reporter.warn(message)
        in_child = not job.plan.settings.rpc
        memory_source = scratch.enter_context(open_memory_source(reporter, in_child=in_child))
        rows = measure_rows(job, memory_source, reporter)
    _report_store(job.store, reporter)
    method = _method(job, request)
    machine = this_machine()
    comparison = Comparison(entrants.name, rows, method, machine, rules, request.use, notes, request.command)
    return CompareResult(comparison)


def _report_store(store: ComparisonStore, reporter: Reporter) -> None:
    if store.reused:
        reporter.note(f"{store.reused} measurements are from an earlier run; --fresh measures anew")
    if store.unusable:
        reporter.warn(
            f"{store.unusable} stored measurements could not be read and are made again; --fresh makes all anew"
        )


def _texts(request: CompareRequest, rules: VerdictRules) -> tuple[TextRequest, ...]:
    """Return the texts, that of the use asked for first: rows are ranked by it."""
    n_ctx_seq, chunks = request.n_ctx_seq, request.chunks
    requests = []
    for word in request.texts or (DEMO,):
        kind, name = _kind_and_name(word, rules)
        length = max(n_ctx_seq, rules.least_chunk_tokens(kind))
        count = chunks if length == n_ctx_seq else max(LEAST_CHUNKS, chunks * n_ctx_seq // length)
        requests.append(TextRequest(kind, named_text(name), length, count))
    asked = next((use.text for use in rules.use_cases if use.name == request.use), None)
    return tuple(sorted(requests, key=lambda text: text.kind != asked))


def _kind_and_name(word: str, rules: VerdictRules) -> tuple[str, str]:
    kind, equals, name = word.partition("=")
    if equals and kind in rules.kinds:
        return kind, name
    if equals and not Path(word).exists():
        raise InputError(f"--text {word}: {kind!r} is not a kind of text; kinds are {', '.join(rules.kinds)}")
    return GENERAL, word


def _chat_texts(texts: tuple[TextRequest, ...], model: Candidate, template: PathName | None) -> tuple[TextRequest, ...]:
    """Return the texts with those of chat in a model's own format: the same for all, so that they can be compared."""
    if not any(text.kind == CHAT for text in texts):
        raise InputError(f"--as-chat is for text of chat; give --text {CHAT}=FILE")
    metadata = metadata_with_template(model.model.metadata, template)
    return tuple(
        replace(text, text=as_chat(text.text, metadata, model.name)) if text.kind == CHAT else text for text in texts
    )


def _entrants(request: CompareRequest, reporter: Reporter, scratch: ExitStack) -> _Entrants:
    entrants = _profiles(request, reporter, scratch) if request.profiles else _files(request)
    if request.base is None:
        return entrants
    base = Path(request.base)
    return replace(entrants, base=candidate_from_file(base, base.name.removesuffix(".gguf")))


def _files(request: CompareRequest) -> _Entrants:
    for option in ("imatrix", "keep"):
        if getattr(request, option) is not None:
            raise InputError(f"--{option} goes with --profiles, which makes files; here files are compared as they are")
    models = [str(model) for model in request.models]
    strange = next((model for model in models if not model.endswith(".gguf") and not Path(model).is_file()), None)
    if strange is not None:
        raise InputError(f"{strange} is not a GGUF file; give --profiles to compare what can be made of a checkpoint")
    files = candidates_from_files([Path(model) for model in models])
    base = next((file for file in files if file.is_unquantized), None) if request.base is None else None
    return _Entrants(_common_name(files), tuple(files), base)


def _common_name(candidates: Sequence[Candidate]) -> str:
    """Return the name that files give to their model, where they agree."""
    values = [candidate.model.metadata.get("general.name") for candidate in candidates]
    names = {str(value.value) for value in values if value is not None}
    return names.pop() if len(names) == 1 else "GGUF files"


def _profiles(request: CompareRequest, reporter: Reporter, scratch: ExitStack) -> _Entrants:
    if len(request.models) > 1:
        raise InputError(f"--profiles are made of one model, but {len(request.models)} are given")
    conversions = _conversions(request, reporter, scratch)
    source = report_warnings(conversions.source, reporter)
    candidates = candidates_from_profiles(conversions, request.profiles)
    # Nothing of the base is quantized, and it is large.
    plain = replace(conversions, imatrix=None, keep=None)
    base = candidate_from_profile(plain, unquantized_profile(source)) if request.base is None else None
    return _Entrants(source.name, tuple(candidates), base)


def _conversions(request: CompareRequest, reporter: Reporter, scratch: ExitStack) -> Conversions:
    name = str(request.models[0])
    path = resolve_source(name, reporter, scratch, local_files_only=request.local_files_only)
    source = _source(path, request)
    imatrix = read_imatrix_for(source, request.imatrix, reporter)
    keep = None if request.keep is None else Path(request.keep)
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
    return Conversions(source, path, imatrix, keep, ConversionOptions(request.threads, request.force))


def _source(path: Path, request: CompareRequest) -> ModelSource:
    if is_gguf(path):
        return source_from_gguf(path)
    return source_from_checkpoint(path, request.pre, norms=request.norms)


def _job(entrants: _Entrants, texts: tuple[TextRequest, ...], request: CompareRequest, reporter: Reporter) -> Job:
    first = entrants.base or entrants.candidates[0]
    longest = max(request.context, *(text.n_ctx_seq for text in texts))
    warn_of_long_context(longest, first.model.trained_context, reporter)
    planning = planning_request(request, reporter, explicit=True, runs=True)
    rates = RateSettings(request.n_prompt, request.n_generate, request.repetitions) if request.rates else None
    store = ComparisonStore(cache_folder(), fresh=request.fresh)
    return Job(entrants.candidates, entrants.base, planning, texts, rates, request.threads, store)


def _notes(entrants: _Entrants, request: CompareRequest) -> list[str]:
    """Return what has to be known of the measurement, on the terminal and in every output."""
    notes = []
    if entrants.base is None:
        notes.append(
            "no unquantized file (F32, F16 or BF16) is among them and no --base is given: perplexity only, and no verdicts"
        )
    elif not entrants.base.is_unquantized:
        notes.append(f"the base {entrants.base.name} is quantized itself, so that what it lost is not seen")
    return notes + (load_warnings() if request.rates else [])


def _method(job: Job, request: CompareRequest) -> Method:
    """Return how a job is measured."""
    return Method(
        n_ctx=job.plan.settings.n_ctx,
        n_prompt=request.n_prompt,
        n_generate=request.n_generate,
        repetitions=request.repetitions if request.rates else 0,
        threads=job.threads or physical_cores(),
        measured_on=measured_on(),
        margin_bytes=job.plan.budgets.margin_bytes if not job.plan.on_cpu else 0,
    )
