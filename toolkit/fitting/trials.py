"""The main job: plan for a budget, convert, load, measure, and back off to more bits if quality fails."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from toolkit.conversion.convert import ConversionOptions, write_gguf
from toolkit.conversion.requantization import requantization_warning
from toolkit.errors import DoesNotFitError, InputError, QualityError
from toolkit.fitting.quality import Proof, QualityMeter, QualityOptions
from toolkit.gguf.output_file import publish_finished, where_it_lies
from toolkit.gguf.scratch import ScratchFolder
from toolkit.llama.footprint import Footprint
from toolkit.llama.load_settings import LoadSettings
from toolkit.llama.model_limits import why_no_next_token
from toolkit.llama.run_settings import run_settings
from toolkit.llama.runtime import LlamaRuntime
from toolkit.llama.vocabulary import LlamaVocabulary
from toolkit.measures.token_rate import RateSettings, TokenRate, measure_rates
from toolkit.memory.plannable import PlannableModel
from toolkit.model_source import ModelSource, unquantized_profile
from toolkit.planning.budgets import Budgets
from toolkit.planning.choice import PlannedChoice
from toolkit.planning.launch import LaunchPlan, launch_plan
from toolkit.planning.load_plan import LoadRequest, plan_load
from toolkit.planning.planner import Planner
from toolkit.planning.request import MemorySource, PlanningRequest
from toolkit.reporter import LOGGING, Reporter
from toolkit.units import format_size

_FILES, _BASE = "files", "base"


@dataclass(frozen=True)
class MeasureOptions:
    """What is measured of a file, and how much quality may be lost."""

    quality: QualityOptions
    rates: RateSettings = field(default_factory=RateSettings)


@dataclass(frozen=True)
class Devices:
    """What a file is loaded on: whom to ask for its memory, and what is free there now."""

    memory_source: MemorySource
    free_now: Callable[[], Budgets] | None = None
    """None where the devices are not here, and the CPU measures in their place"""
    allocate: Callable[[Path, LoadSettings], Footprint] | None = None
    """loads a file on the devices that take their place, and returns what it took"""
    release: Callable[[], None] = lambda: None
    """frees what the memory_source takes of the devices for itself, until it is asked again"""


@dataclass(frozen=True)
class FitJob:
    """A model, what it has to fit into, and how the result is judged."""

    source: ModelSource
    model: PlannableModel
    """the same, in the profiles that may be chosen"""
    request: PlanningRequest
    measure: MeasureOptions
    conversion: ConversionOptions = field(default_factory=ConversionOptions)


@dataclass(frozen=True)
class Trial:
    """A choice that was converted, loaded and measured."""

    choice: PlannedChoice
    output: Path
    """where it belongs"""
    file: Path
    """where it lies until it is good enough"""
    allocated: Footprint | None
    """None where llama.cpp does not tell"""
    quality: Proof
    rates: TokenRate
    measured_as_planned: bool
    """on the devices of the plan; else on the CPU"""


@dataclass(frozen=True)
class FitResult:
    """A file that fits, and the proof."""

    trial: Trial
    runners_up: tuple[PlannedChoice, ...]
    rejected: tuple[Trial, ...]
    """trials that lost too much quality; their files never got their names"""
    launch: LaunchPlan
    request: PlanningRequest
    seconds: float


def find_fit(
    job: FitJob, devices: Devices, output_for: Callable[[PlannedChoice], Path], reporter: Reporter = LOGGING
) -> FitResult:
    """Return the file that fits the budget, converted, loaded and measured.

    Raises InputError for a model that predicts no next token; DoesNotFitError if nothing fits, or what was loaded takes
    more than was planned; QualityError if even the heaviest profile that fits loses more than `measure.quality.max_increase`; and
    what conversion and measuring raise.
    """
    _refuse_what_cannot_be_measured(job.source)
    started = time.perf_counter()
    with Planner(job.model, job.request, devices.memory_source) as planner:
        reporter.note("asking llama.cpp how much memory each profile takes")
        first, *runners_up = _offloading(planner.choices(), job.request)
        with _Trials(job, devices, output_for, reporter) as trials:
            *rejected, trial = trials.until_good_enough(first, planner)
            _refuse_what_lost_too_much(trial, job.measure.quality)
            publish_finished(trial.file, trial.output, force=job.conversion.force)
    launch = launch_plan(trial.choice, trial.output)
    return FitResult(trial, tuple(runners_up), tuple(rejected), launch, job.request, time.perf_counter() - started)


def _refuse_what_cannot_be_measured(source: ModelSource) -> None:
    why = why_no_next_token(source.metadata, (tensor.name for tensor in source.tensors))
    if why is not None:
        raise InputError(
            f"{why}, so fit has no quality to measure; use `convert` with a profile, and `plan` for its memory"
        )


def _offloading(choices: list[PlannedChoice], request: PlanningRequest) -> list[PlannedChoice]:
    """Return the choices of which something lies on a GPU, unless the CPU has to do it alone."""
    found = [choice for choice in choices if choice.placement.n_gpu_layers or request.on_cpu]
    if found:
        return found
    best, budgets = choices[0], request.budgets
    raise DoesNotFitError(
        f"nothing fits {format_size(sum(budgets.vram_bytes))} of VRAM at a context of {best.settings.n_ctx:,}: the first layer "
        f"of {best.file.profile} lacks {format_size(best.first_layer_lacks_bytes)} (margin {format_size(budgets.margin_bytes)} "
        "included); give more --vram or a shorter --ctx, or --vram 0 for the CPU alone"
    )


class _Trials:
    """Converts and measures one choice after the other, against one baseline, in a folder beside the output."""

    def __init__(
        self, job: FitJob, devices: Devices, output_for: Callable[[PlannedChoice], Path], reporter: Reporter
    ) -> None:
        self._job = job
        self._devices = devices
        self._output_for = output_for
        self._reporter = reporter
        self._stack = ExitStack()
        self._meter: QualityMeter | None = None
        self._scratch: Path | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def until_good_enough(self, choice: PlannedChoice, planner: Planner) -> Iterator[Trial]:
        """Yield trials of ever heavier choices until one is good enough or there is none."""
        while True:
            trial = self._try(choice)
            yield trial
            heavier = None if trial.quality.is_good(self._job.measure.quality) else planner.heavier(choice)
            if heavier is None:
                return
            trial.file.unlink()
            choice = heavier
            self._reporter.note(f"{trial.quality.summary}: backing off to {choice.file.profile}")

    def _try(self, choice: PlannedChoice) -> Trial:
        output, plan = self._output_for(choice), choice.file.conversion
        assert plan is not None
        file = self._folder_beside(output) / _FILES / output.name
        self._reporter.note(f"converting to {choice.file.profile}")
        message = requantization_warning(self._job.source, plan)
        if message is not None:
            self._reporter.note(message)
        with self._reporter.task("converting", sum(tensor.n_bytes for tensor in plan.tensors), unit="bytes") as task:
            write_gguf(plan, file, replace(self._job.conversion, progress=task.advance))
        meter = self._prepared_meter(file)
        if self._devices.free_now is None:
            return self._on_the_cpu(choice, output, file, meter)
        return self._as_planned(self._still_fitting(choice, file), output, file, meter)

    def _folder_beside(self, output: Path) -> Path:
        if self._scratch is None:
            self._scratch = self._stack.enter_context(ScratchFolder(where_it_lies(output).parent))
            for name in (_FILES, _BASE):
                (self._scratch / name).mkdir()
        return self._scratch

    def _still_fitting(self, choice: PlannedChoice, file: Path) -> PlannedChoice:
        """Read what is free once more, and divide the file anew if it has become too little."""
        assert self._devices.free_now is not None
        self._devices.release()
        budgets, now = self._job.request.budgets, self._devices.free_now()
        if now.holds(choice.footprint) or not choice.placement.n_gpu_layers:
            return choice
        self._reporter.note(
            f"{format_size(sum(now.vram_bytes))} of VRAM are free now, {format_size(sum(budgets.vram_bytes))} were planned for: "
            "planned again"
        )
        again = plan_load(LoadRequest(file, choice.settings.undivided()), now, self._devices.memory_source).choice
        self._devices.release()
        return replace(again, file=choice.file)

    def _as_planned(self, choice: PlannedChoice, output: Path, file: Path, meter: QualityMeter) -> Trial:
        self._reporter.note(f"loading and measuring {output.name}")
        with LlamaRuntime(file, run_settings(choice.settings)) as runtime:
            allocated = runtime.footprint_if_known()
            self._check(choice, allocated)
            return Trial(choice, output, file, allocated, *self._measure(runtime, meter), measured_as_planned=True)

    def _on_the_cpu(self, choice: PlannedChoice, output: Path, file: Path, meter: QualityMeter) -> Trial:
        allocated = self._devices.allocate(file, choice.settings) if self._devices.allocate is not None else None
        self._check(choice, allocated)
        self._reporter.note(f"measuring {output.name}")
        with LlamaRuntime(file, run_settings(choice.settings.on_cpu())) as runtime:
            return Trial(choice, output, file, allocated, *self._measure(runtime, meter), measured_as_planned=False)

    def _check(self, choice: PlannedChoice, allocated: Footprint | None) -> None:
        """Hold what was taken against the budget.

        Raises DoesNotFitError if it is more.
        """
        budgets = self._job.request.budgets
        if allocated is not None and any(budgets.excess(replace(allocated, asked=choice.footprint.asked))):
            raise DoesNotFitError(
                f"{choice.file.profile} took {format_size(allocated.gpu_bytes)} when it was loaded, more than the budget of "
                f"{format_size(sum(budgets.vram_bytes))}; planned were {format_size(choice.footprint.gpu_bytes)}"
            )

    def _prepared_meter(self, file: Path) -> QualityMeter:
        if self._meter is None:
            job, allow_nan = self._job, self._job.conversion.allow_nan
            self._meter = QualityMeter(
                job.source,
                job.measure.quality,
                file.parents[1] / _BASE,
                job.request.settings.n_ctx,
                allow_nan=allow_nan,
            )
            self._reporter.note(f"measuring the unquantized model ({unquantized_profile(job.source).upper()})")
        with LlamaVocabulary(file) as vocabulary:
            self._meter.prepare(lambda text: len(vocabulary.tokenize(text)))
        return self._meter

    def _measure(self, runtime: LlamaRuntime, meter: QualityMeter) -> tuple[Proof, TokenRate]:
        rates, n_ctx = self._job.measure.rates, runtime.n_ctx
        fitting = replace(rates, n_prompt=min(rates.n_prompt, n_ctx), n_generate=min(rates.n_generate, n_ctx))
        return meter.measure(runtime), measure_rates(runtime, fitting)


def _refuse_what_lost_too_much(trial: Trial, options: QualityOptions) -> None:
    if trial.quality.is_good(options) or trial.quality.is_acceptable:
        return
    profile, proof = trial.choice.file.profile, trial.quality
    if proof.verdict is not None:
        raise QualityError(
            f"{profile}, the heaviest profile that fits, is {proof.verdict.without_basis}; give more --vram, or another --use"
        )
    raise QualityError(
        f"{profile}, the heaviest profile that fits, raises the perplexity by {proof.increase:.1%}, more than "
        f"--max-ppl-increase {options.max_increase:.1%}; give more --vram, or accept more"
    )
