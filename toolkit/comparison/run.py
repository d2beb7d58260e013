"""Measure every candidate: plan its memory, load it once a text, keep what was measured, go on after a failure."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import cache, partial
from pathlib import Path

from toolkit.comparison.candidates import Candidate
from toolkit.comparison.quality import BaseModel, ModelFile, TextRequest, measure_quality
from toolkit.comparison.rows import DeviceMemory, PlannedMemory, Quality, Row
from toolkit.comparison.store import ComparisonStore
from toolkit.errors import QualityError, ToolkitError
from toolkit.gguf.scratch import ScratchFolder
from toolkit.llama.bad_weights import find_bad_weights, suspicion
from toolkit.llama.devices import supports_offload
from toolkit.llama.load_settings import F16_KV, KvTypes, LoadSettings
from toolkit.llama.run_settings import RunSettings, run_settings
from toolkit.llama.runtime import LlamaRuntime
from toolkit.measures.token_rate import RateSettings, TokenRate, measure_rates
from toolkit.planning.choice import PlannedChoice, devices_with_budgets
from toolkit.planning.planner import Planner
from toolkit.planning.request import MemorySource, PlanningRequest
from toolkit.reporter import LOGGING, Reporter

BATCH = 512


@dataclass(frozen=True)
class Job:
    """What is compared, on what, and for which budget."""

    candidates: tuple[Candidate, ...]
    base: Candidate | None
    plan: PlanningRequest
    texts: tuple[TextRequest, ...]
    rates: RateSettings | None = None
    threads: int | None = None
    store: ComparisonStore = field(default_factory=lambda: ComparisonStore(None))


def measure_rows(job: Job, memory_source: MemorySource, reporter: Reporter = LOGGING) -> tuple[Row, ...]:
    """Return a row for the base and for every candidate with every KV type: the base first, then the heaviest.

    A candidate that fails is a row with an error, and the others go on.

    Raises ToolkitError if the base fails, because nothing can be compared with it then.
    """
    with ExitStack() as stack:
        run = _Run(job, memory_source, reporter, stack)
        rows = run.base_rows()
        for candidate in job.candidates:
            rows += run.rows(candidate)
    return tuple(sorted(rows, key=lambda row: (not row.is_base, -row.file_bytes)))


class _Run:
    """The state of a run: the base, its file and its logits, which live as long as the stack."""

    def __init__(self, job: Job, memory_source: MemorySource, reporter: Reporter, stack: ExitStack) -> None:
        self._job, self._memory_source, self._reporter, self._stack = job, memory_source, reporter, stack
        self._base: BaseModel | None = None
        self._base_path: Callable[[], Path] | None = None

    def base_rows(self) -> list[Row]:
        """Return the row of the base, if there is one."""
        base = self._job.base
        if base is None:
            return []
        self._base_path = self._path_of(base, self._stack)
        choice = self._planned(base, F16_KV)
        model_file = self._model_file(base, choice, self._base_path)
        self._base = BaseModel(model_file, self._stack.enter_context(ScratchFolder()), self._reporter)
        row = replace(_bare_row(base, F16_KV), is_base=True)
        return [self._measured(row, base, choice, _Source(model_file, self._base.quality))]

    def rows(self, candidate: Candidate) -> list[Row]:
        """Return the rows of a candidate, one a KV type; one that failed has an error."""
        rows = []
        with ExitStack() as files:
            is_base = self._job.base is not None and candidate.digest == self._job.base.digest
            path = self._base_path if is_base and self._base_path is not None else self._path_of(candidate, files)
            for kv_types in self._job.plan.kv_types:
                if not (is_base and kv_types == F16_KV):
                    rows.append(self._row(candidate, kv_types, path))
            if candidate.path is not None and not candidate.path.exists():
                # It was measured in an earlier run, but is to stay.
                self._path_of(candidate, files)()
        return rows

    def _row(self, candidate: Candidate, kv_types: KvTypes, path: Callable[[], Path]) -> Row:
        row = _bare_row(candidate, kv_types)
        try:
            choice = self._planned(candidate, kv_types)
            model_file = self._model_file(candidate, choice, path)
            measure = partial(measure_quality, model_file, base=self._base, reporter=self._reporter)
            return self._measured(row, candidate, choice, _Source(model_file, measure))
        except ToolkitError as error:
            reason = f"{error}{suspicion(find_bad_weights(path()) if isinstance(error, QualityError) else ())}"
            self._reporter.note(f"{row.name} failed, the others go on: {reason}")
            return replace(row, error=reason, exit_code=error.exit_code)

    def _path_of(self, candidate: Candidate, files: ExitStack) -> Callable[[], Path]:
        @cache
        def path() -> Path:
            if candidate.path is None or not candidate.path.exists():
                self._reporter.note(f"converting to {candidate.name}")
            return files.enter_context(candidate.make_file())

        return path

    def _planned(self, candidate: Candidate, kv_types: KvTypes) -> PlannedChoice:
        with Planner(candidate.model, self._job.plan, self._memory_source) as planner:
            return planner.choice(candidate.model.profiles[0], kv_types)

    def _settings(self, choice: PlannedChoice, n_ctx: int, together: int = 1) -> LoadSettings:
        """Return how a file is loaded to be measured: as planned, or on the CPU where that cannot be."""
        on_gpu = choice.fits and _can_offload(choice)
        # No more tokens than the plan has room for on a GPU.
        n_parallel = min(together, max(1, choice.settings.n_ctx // n_ctx)) if on_gpu else together
        n_tokens = n_ctx * n_parallel
        batch = min(BATCH, n_tokens)
        settings = replace(choice.settings, n_ctx=n_tokens, n_parallel=n_parallel, n_batch=batch, n_ubatch=batch)
        return settings if on_gpu else settings.on_cpu()

    def _model_file(self, candidate: Candidate, choice: PlannedChoice, path: Callable[[], Path]) -> ModelFile:
        def settings(n_ctx: int, together: int) -> RunSettings:
            return run_settings(self._settings(choice, n_ctx, together), self._job.threads)

        return ModelFile(candidate.name, path, settings)

    def _measured(self, row: Row, candidate: Candidate, choice: PlannedChoice, source: "_Source") -> Row:
        row = replace(row, memory=_memory(choice, self._job.plan))
        qualities = [self._quality(candidate, choice, text, source.quality) for text in self._job.texts]
        # A rate on the CPU says nothing of a file that was meant for a GPU and does not fit.
        can_be_timed = choice.fits or not _can_offload(choice)
        rates = self._rates(candidate, choice, source, self._job.rates) if self._job.rates and can_be_timed else None
        return replace(row, qualities=tuple(qualities), rates=rates)

    def _quality(
        self,
        candidate: Candidate,
        choice: PlannedChoice,
        text: TextRequest,
        measure: Callable[[TextRequest], Quality],
    ) -> Quality:
        base = self._job.base.digest if self._job.base is not None else None
        settings = self._settings_key(choice, text.n_ctx_seq)
        key = (candidate.digest, base, text.text.sha256, text.n_ctx_seq, text.max_chunks, *settings)
        quality = self._job.store.quality(*key)
        if quality is not None:
            return replace(quality, kind=text.kind, text=text.text.name)
        self._reporter.note(f"measuring {candidate.name} on {text.text.name}")
        quality = measure(text)
        self._job.store.keep_quality(quality, *key)
        return quality

    def _rates(self, candidate: Candidate, choice: PlannedChoice, source: "_Source", wanted: RateSettings) -> TokenRate:
        n_ctx = max(wanted.n_prompt, wanted.n_generate) + wanted.n_depth
        key = (candidate.digest, asdict(wanted), *self._settings_key(choice, n_ctx))
        rates = self._job.store.rates(*key)
        if rates is None:
            self._reporter.note(f"timing {candidate.name}")
            with LlamaRuntime(source.model_file.path(), source.model_file.settings(n_ctx, 1)) as runtime:
                rates = measure_rates(runtime, wanted)
            self._job.store.keep_rates(rates, *key)
        return rates

    def _settings_key(self, choice: PlannedChoice, n_ctx: int) -> tuple[object, ...]:
        return asdict(self._settings(choice, n_ctx)), self._job.threads


@dataclass(frozen=True)
class _Source:
    """A file that can be loaded, and how its quality is measured."""

    model_file: ModelFile
    quality: Callable[[TextRequest], Quality]


def _bare_row(candidate: Candidate, kv_types: KvTypes) -> Row:
    kv = str(kv_types)
    path = None if candidate.path is None else str(candidate.path)
    return Row(candidate.name, kv, False, candidate.file.file_bytes, candidate.bits_per_weight, path=path)


def _can_offload(choice: PlannedChoice) -> bool:
    return bool(choice.settings.rpc) or supports_offload()


def _memory(choice: PlannedChoice, request: PlanningRequest) -> PlannedMemory:
    devices: Sequence[DeviceMemory] = [
        DeviceMemory(
            device.name,
            device.on_host,
            device.weights_bytes,
            device.kv_cache_bytes,
            device.compute_bytes,
            budget,
        )
        for device, budget in devices_with_budgets(choice, request.budgets)
    ]
    return PlannedMemory(
        tuple(devices),
        choice.placement.n_gpu_layers,
        choice.n_layers,
        choice.fits,
        choice.fits and choice.fits_whole,
        choice.missing_bytes,
        choice.footprint.answered_by,
    )
