"""The main job: plan for a budget, convert, load, measure, and back off to more bits if quality fails."""

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from toolkit.convert import ConversionOptions, write_gguf
from toolkit.errors import DoesNotFitError, EnvironmentFaultError, QualityError
from toolkit.evaluation_text import EvaluationText
from toolkit.launch import LaunchPlan, launch_plan
from toolkit.load_plan import LoadRequest, plan_load, runtime_settings
from toolkit.memory import Footprint, MemorySettings
from toolkit.model_source import ModelSource, unquantized_profile
from toolkit.perplexity import Perplexity, measure_perplexity
from toolkit.plan import AsksMemory, PlannedChoice, Planner, PlanRequest
from toolkit.plannable import PlannableModel
from toolkit.quant_profile import load_profile
from toolkit.runtime import LlamaRuntime, RuntimeSettings
from toolkit.split_search import Budgets
from toolkit.tensor_plan import plan_conversion
from toolkit.token_rate import RateSettings, TokenRate, measure_rates
from toolkit.units import format_size

WINDOW = 512
"""The window that published perplexities use."""
SHORTEST_WINDOW = 32


@dataclass(frozen=True)
class MeasureOptions:
    """What is measured, and how much quality may be lost."""

    text: EvaluationText
    max_chunks: int | None = None
    max_increase: float = 0.03
    rates: RateSettings = field(default_factory=RateSettings)


@dataclass(frozen=True)
class Watcher:
    """Who is told how far the work is; the default is nobody."""

    step: Callable[[str], None] = lambda _what: None
    conversion: ConversionOptions = field(default_factory=ConversionOptions)


@dataclass(frozen=True)
class Quality:
    """Perplexity of the file and of the unquantized model, on the same windows."""

    file: Perplexity
    baseline: Perplexity

    @property
    def increase(self) -> float:
        """Return by what share the perplexity grew: 0.01 is one per cent."""
        return self.file.perplexity / self.baseline.perplexity - 1


@dataclass(frozen=True)
class Devices:
    """What a file is loaded on: whom to ask for its memory, and what is free there now."""

    asker: AsksMemory
    free_now: Callable[[], Budgets] | None = None
    """None where the devices are not here, and the CPU measures in their place"""
    allocate: Callable[[Path, MemorySettings], Footprint] | None = None
    """loads a file on what stands in for them, and returns what it took"""


@dataclass(frozen=True)
class FitJob:
    """A model, what it has to fit into, and how the result is judged."""

    source: ModelSource
    model: PlannableModel
    """the same, in the profiles that may be chosen"""
    request: PlanRequest
    measure: MeasureOptions


@dataclass(frozen=True)
class Trial:
    """A choice that was converted, loaded and measured."""

    choice: PlannedChoice
    output: Path
    allocated: Footprint | None
    """None where llama.cpp does not tell"""
    quality: Quality
    rates: TokenRate
    measured_as_planned: bool
    """on the devices of the plan; else on the CPU"""


@dataclass(frozen=True)
class FitResult:
    """A file that fits, and the proof."""

    trial: Trial
    runners_up: tuple[PlannedChoice, ...]
    rejected: tuple[Trial, ...]
    """trials that lost too much quality; their files are gone"""
    launch: LaunchPlan
    seconds: float


def fit(
    job: FitJob, devices: Devices, output_for: Callable[[PlannedChoice], Path], watcher: Watcher | None = None
) -> FitResult:
    """Return the file that fits the budget, converted, loaded and measured.

    Raises DoesNotFitError if nothing fits, or what was loaded takes more than was planned; QualityError if even the
    heaviest profile that fits loses more than `measure.max_increase`; and what conversion and measuring raise.
    """
    watcher = watcher or Watcher()
    started = time.perf_counter()
    with Planner(job.model, job.request, devices.asker) as planner:
        watcher.step("asking llama.cpp how much memory each profile takes")
        first, *runners_up = _offloading(planner.choices(), job.request)
        *rejected, trial = _Trials(job, devices, output_for, watcher).until_good_enough(first, planner)
    launch = launch_plan(trial.choice, trial.output)
    return FitResult(trial, tuple(runners_up), tuple(rejected), launch, time.perf_counter() - started)


def _offloading(choices: list[PlannedChoice], request: PlanRequest) -> list[PlannedChoice]:
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
    """Converts and measures one choice after the other, against one baseline."""

    def __init__(
        self, job: FitJob, devices: Devices, output_for: Callable[[PlannedChoice], Path], watcher: Watcher
    ) -> None:
        self._job = job
        self._devices = devices
        self._output_for = output_for
        self._watcher = watcher
        self._baseline: Perplexity | None = None

    def until_good_enough(self, choice: PlannedChoice, planner: Planner) -> Iterator[Trial]:
        """Yield trials of ever heavier choices, the last of which is good enough; the files of others are removed."""
        while True:
            trial = self._try(choice)
            yield trial
            if trial.quality.increase <= self._job.measure.max_increase:
                return
            trial.output.unlink()
            choice = _heavier(planner, trial, self._job.measure.max_increase)
            self._watcher.step(f"perplexity grew by {trial.quality.increase:.1%}: backing off to {choice.file.profile}")

    def _try(self, choice: PlannedChoice) -> Trial:
        output, plan = self._output_for(choice), choice.file.conversion
        assert plan is not None
        self._watcher.step(f"converting to {choice.file.profile}")
        write_gguf(plan, output, self._watcher.conversion)
        try:
            baseline = self._measured_baseline(output.parent)
            if self._devices.free_now is None:
                return self._on_the_cpu(choice, output, baseline)
            return self._as_planned(self._still_fitting(choice, output), output, baseline)
        except BaseException:
            output.unlink(missing_ok=True)
            raise

    def _still_fitting(self, choice: PlannedChoice, output: Path) -> PlannedChoice:
        """Read what is free once more, and divide the file anew if it has become too little."""
        assert self._devices.free_now is not None
        budgets, now = self._job.request.budgets, self._devices.free_now()
        if now.holds(choice.footprint) or not choice.placement.n_gpu_layers:
            return choice
        self._watcher.step(
            f"{format_size(sum(now.vram_bytes))} of VRAM are free now, {format_size(sum(budgets.vram_bytes))} were planned for: "
            "planned again"
        )
        settings = replace(choice.settings, n_gpu_layers=0, tensor_overrides=(), tensor_split=())
        again = plan_load(LoadRequest(output, settings), now, self._devices.asker).choice
        return replace(again, file=choice.file)

    def _as_planned(self, choice: PlannedChoice, output: Path, baseline: Perplexity) -> Trial:
        self._watcher.step(f"loading and measuring {output.name}")
        with LlamaRuntime(output, runtime_settings(choice.settings)) as runtime:
            try:
                allocated = runtime.footprint()
            except EnvironmentFaultError:
                allocated = None
            self._check(choice, allocated)
            return Trial(choice, output, allocated, *self._measure(runtime, baseline), measured_as_planned=True)

    def _on_the_cpu(self, choice: PlannedChoice, output: Path, baseline: Perplexity) -> Trial:
        allocated = self._devices.allocate(output, choice.settings) if self._devices.allocate is not None else None
        self._check(choice, allocated)
        self._watcher.step(f"measuring {output.name}")
        here = replace(choice.settings, n_gpu_layers=0, tensor_overrides=(), tensor_split=(), device="cpu", rpc=())
        with LlamaRuntime(output, runtime_settings(here)) as runtime:
            return Trial(choice, output, allocated, *self._measure(runtime, baseline), measured_as_planned=False)

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

    def _measured_baseline(self, folder: Path) -> Perplexity:
        """Measure the unquantized model once, from a file that is removed afterwards.

        It runs on the CPU: the budget is the quantized file's, and the baseline may be far larger than the GPU.
        """
        if self._baseline is None:
            profile = load_profile(unquantized_profile(self._job.source))
            self._watcher.step(f"measuring the unquantized model ({profile.name})")
            with tempfile.TemporaryDirectory(prefix=".gguf-toolkit-", dir=folder) as scratch:
                path = Path(scratch) / "baseline.gguf"
                options = ConversionOptions(allow_nan=self._watcher.conversion.allow_nan)
                write_gguf(plan_conversion(self._job.source, profile), path, options)
                with LlamaRuntime(path, RuntimeSettings(n_ctx=self._window, devices=())) as runtime:
                    self._baseline = _perplexity(runtime, self._job.measure, self._window)
        return self._baseline

    def _measure(self, runtime: LlamaRuntime, baseline: Perplexity) -> tuple[Quality, TokenRate]:
        quality = Quality(_perplexity(runtime, self._job.measure, baseline.n_ctx), baseline)
        rates, n_ctx = self._job.measure.rates, runtime.n_ctx
        fitting = replace(rates, n_prompt=min(rates.n_prompt, n_ctx), n_generate=min(rates.n_generate, n_ctx))
        return quality, measure_rates(runtime, fitting)

    @property
    def _window(self) -> int:
        """Return the window to measure in, at most as long as the context."""
        return min(WINDOW, self._job.request.settings.n_ctx)


def _perplexity(runtime: LlamaRuntime, measure: MeasureOptions, window: int) -> Perplexity:
    tokens = runtime.tokenize(measure.text.text)
    fitting = max(SHORTEST_WINDOW, min(window, len(tokens) // 2))
    return measure_perplexity(runtime, tokens, min(window, fitting), measure.max_chunks)


def _heavier(planner: Planner, trial: Trial, max_increase: float) -> PlannedChoice:
    heavier = planner.heavier(trial.choice)
    if heavier is None:
        raise QualityError(
            f"{trial.choice.file.profile}, the heaviest profile that fits, raises the perplexity by "
            f"{trial.quality.increase:.1%}, more than --max-ppl-increase {max_increase:.1%}; give more --vram, or accept more"
        )
    return heavier
