"""Measure every contestant: plan its memory, load it once a text, keep what was measured, go on after a failure."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import cache, partial
from pathlib import Path

from toolkit.comparison.contestants import Contestant
from toolkit.comparison.quality import BaseModel, Loadable, TextRequest, measure_quality
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

    contestants: tuple[Contestant, ...]
    base: Contestant | None
    plan: PlanningRequest
    texts: tuple[TextRequest, ...]
    rates: RateSettings | None = None
    threads: int | None = None
    store: ComparisonStore = field(default_factory=lambda: ComparisonStore(None))


def measure_rows(job: Job, memory_source: MemorySource, reporter: Reporter = LOGGING) -> tuple[Row, ...]:
    """Return a row for the base and for every contestant with every KV type: the base first, then the heaviest.

    A contestant that fails is a row with an error, and the others go on.

    Raises ToolkitError if the base fails, because nothing can be compared with it then.
    """
    with ExitStack() as stack:
        run = _Run(job, memory_source, reporter, stack)
        rows = run.base_rows()
        for contestant in job.contestants:
            rows += run.rows(contestant)
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
        self._base_path = self._opened(base, self._stack)
        choice = self._planned(base, F16_KV)
        loadable = self._loadable(base, choice, self._base_path)
        self._base = BaseModel(loadable, self._stack.enter_context(ScratchFolder()), self._reporter)
        row = replace(_bare_row(base, F16_KV), is_base=True)
        return [self._measured(row, base, choice, _Source(loadable, self._base.quality))]

    def rows(self, contestant: Contestant) -> list[Row]:
        """Return the rows of a contestant, one a KV type; one that failed has an error."""
        found = []
        with ExitStack() as files:
            is_base = self._job.base is not None and contestant.content == self._job.base.content
            path = self._base_path if is_base and self._base_path is not None else self._opened(contestant, files)
            for kv_types in self._job.plan.kv_types:
                if not (is_base and kv_types == F16_KV):
                    found.append(self._row(contestant, kv_types, path))
            if contestant.path is not None and not contestant.path.exists():
                # It was measured in an earlier run, but is to stay.
                self._opened(contestant, files)()
        return found

    def _row(self, contestant: Contestant, kv_types: KvTypes, path: Callable[[], Path]) -> Row:
        row = _bare_row(contestant, kv_types)
        try:
            choice = self._planned(contestant, kv_types)
            loadable = self._loadable(contestant, choice, path)
            measure = partial(measure_quality, loadable, base=self._base, reporter=self._reporter)
            return self._measured(row, contestant, choice, _Source(loadable, measure))
        except ToolkitError as error:
            reason = f"{error}{suspicion(find_bad_weights(path()) if isinstance(error, QualityError) else ())}"
            self._reporter.note(f"{row.name} failed, the others go on: {reason}")
            return replace(row, error=reason, exit_code=error.exit_code)

    def _opened(self, contestant: Contestant, files: ExitStack) -> Callable[[], Path]:
        @cache
        def path() -> Path:
            if contestant.path is None or not contestant.path.exists():
                self._reporter.note(f"converting to {contestant.name}")
            return files.enter_context(contestant.opened())

        return path

    def _planned(self, contestant: Contestant, kv_types: KvTypes) -> PlannedChoice:
        with Planner(contestant.model, self._job.plan, self._memory_source) as planner:
            return planner.choice(contestant.model.profiles[0], kv_types)

    def _settings(self, choice: PlannedChoice, n_ctx: int, together: int = 1) -> LoadSettings:
        """Return how a file is loaded to be measured: as planned, or on the CPU where that cannot be."""
        on_gpu = choice.fits and _can_offload(choice)
        # No more tokens than the plan has room for on a GPU.
        n_parallel = min(together, max(1, choice.settings.n_ctx // n_ctx)) if on_gpu else together
        n_tokens = n_ctx * n_parallel
        batch = min(BATCH, n_tokens)
        settings = replace(choice.settings, n_ctx=n_tokens, n_parallel=n_parallel, n_batch=batch, n_ubatch=batch)
        return settings if on_gpu else settings.on_cpu()

    def _loadable(self, contestant: Contestant, choice: PlannedChoice, path: Callable[[], Path]) -> Loadable:
        def settings(n_ctx: int, together: int) -> RunSettings:
            return run_settings(self._settings(choice, n_ctx, together), self._job.threads)

        return Loadable(contestant.name, path, settings)

    def _measured(self, row: Row, contestant: Contestant, choice: PlannedChoice, source: "_Source") -> Row:
        row = replace(row, memory=_memory(choice, self._job.plan))
        qualities = [self._quality(contestant, choice, text, source.quality) for text in self._job.texts]
        # A rate on the CPU says nothing of a file that was meant for a GPU and does not fit.
        can_be_timed = choice.fits or not _can_offload(choice)
        rates = self._rates(contestant, choice, source, self._job.rates) if self._job.rates and can_be_timed else None
        return replace(row, qualities=tuple(qualities), rates=rates)

    def _quality(
        self,
        contestant: Contestant,
        choice: PlannedChoice,
        text: TextRequest,
        measure: Callable[[TextRequest], Quality],
    ) -> Quality:
        base = self._job.base.content if self._job.base is not None else None
        settings = self._settings_key(choice, text.n_ctx_seq)
        key = (contestant.content, base, text.text.sha256, text.n_ctx_seq, text.max_chunks, *settings)
        found = self._job.store.quality(*key)
        if found is not None:
            return replace(found, kind=text.kind, text=text.text.name)
        self._reporter.note(f"measuring {contestant.name} on {text.text.name}")
        found = measure(text)
        self._job.store.keep_quality(found, *key)
        return found

    def _rates(
        self, contestant: Contestant, choice: PlannedChoice, source: "_Source", wanted: RateSettings
    ) -> TokenRate:
        n_ctx = max(wanted.n_prompt, wanted.n_generate) + wanted.n_depth
        key = (contestant.content, asdict(wanted), *self._settings_key(choice, n_ctx))
        found = self._job.store.rates(*key)
        if found is None:
            self._reporter.note(f"timing {contestant.name}")
            with LlamaRuntime(source.loadable.path(), source.loadable.settings(n_ctx, 1)) as runtime:
                found = measure_rates(runtime, wanted)
            self._job.store.keep_rates(found, *key)
        return found

    def _settings_key(self, choice: PlannedChoice, n_ctx: int) -> tuple[object, ...]:
        return asdict(self._settings(choice, n_ctx)), self._job.threads


@dataclass(frozen=True)
class _Source:
    """A file that can be loaded, and how its quality is measured."""

    loadable: Loadable
    quality: Callable[[TextRequest], Quality]


def _bare_row(contestant: Contestant, kv_types: KvTypes) -> Row:
    kv = str(kv_types)
    path = None if contestant.path is None else str(contestant.path)
    return Row(contestant.name, kv, False, contestant.file.file_bytes, contestant.bits_per_weight, path=path)


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
