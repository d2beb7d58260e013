"""The main job: plan for a budget, convert, load, measure, and back off to more bits if quality fails."""

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from toolkit.convert import ConversionOptions, write_gguf
from toolkit.errors import DoesNotFitError, QualityError
from toolkit.evaluation_text import EvaluationText
from toolkit.fit_plan import Candidate, FitPlanner, FitRequest
from toolkit.imatrix import Imatrix
from toolkit.launch import LaunchPlan
from toolkit.memory import Footprint, MemoryProbe
from toolkit.model_source import ModelSource, unquantized_profile
from toolkit.perplexity import Perplexity, measure_perplexity
from toolkit.quant_profile import load_profile
from toolkit.runtime import LlamaRuntime, RuntimeSettings, supports_offload
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
class FitJob:
    """A model, what it has to fit into, and how the result is judged."""

    source: ModelSource
    request: FitRequest
    measure: MeasureOptions
    imatrix: Imatrix | None = None


@dataclass(frozen=True)
class Trial:
    """A candidate that was converted, loaded and measured."""

    candidate: Candidate
    output: Path
    allocated: Footprint
    quality: Quality
    rates: TokenRate
    measured_on_gpu: bool


@dataclass(frozen=True)
class FitResult:
    """A file that fits, and the proof."""

    trial: Trial
    runners_up: tuple[Candidate, ...]
    rejected: tuple[Trial, ...]
    """trials that lost too much quality; their files are gone"""
    launch: LaunchPlan
    seconds: float


def fit(job: FitJob, output_for: Callable[[Candidate], Path], watcher: Watcher | None = None) -> FitResult:
    """Return the file that fits the budget, converted, loaded and measured.

    Raises DoesNotFitError if nothing fits, or what was loaded takes more than was planned; QualityError if even the
    heaviest profile that fits loses more than `measure.max_increase`; and what conversion and measuring raise.
    """
    watcher = watcher or Watcher()
    started = time.perf_counter()
    with MemoryProbe() as probe, FitPlanner(job.source, job.request, probe, job.imatrix) as planner:
        watcher.step("asking llama.cpp how much memory each profile takes")
        first, *runners_up = planner.candidates()
        *rejected, trial = _Trials(job, probe, output_for, watcher).until_good_enough(first, planner)
    choice = trial.candidate.choice
    launch = LaunchPlan(trial.output, job.request.n_ctx, choice.split.n_gpu_layers, choice.kv_type)
    return FitResult(trial, tuple(runners_up), tuple(rejected), launch, time.perf_counter() - started)


class _Trials:
    """Converts and measures one candidate after the other, against one baseline."""

    def __init__(
        self, job: FitJob, probe: MemoryProbe, output_for: Callable[[Candidate], Path], watcher: Watcher
    ) -> None:
        self._job = job
        self._probe = probe
        self._output_for = output_for
        self._watcher = watcher
        self._baseline: Perplexity | None = None

    def until_good_enough(self, candidate: Candidate, planner: FitPlanner) -> Iterator[Trial]:
        """Yield trials of ever heavier candidates, the last of which is good enough; the files of others are removed."""
        while True:
            trial = self._try(candidate)
            yield trial
            if trial.quality.increase <= self._job.measure.max_increase:
                return
            trial.output.unlink()
            candidate = _heavier(planner, trial, self._job.measure.max_increase)
            self._watcher.step(
                f"perplexity grew by {trial.quality.increase:.1%}: backing off to {candidate.plan.profile.name}"
            )

    def _try(self, candidate: Candidate) -> Trial:
        output, name = self._output_for(candidate), candidate.plan.profile.name
        self._watcher.step(f"converting to {name}")
        write_gguf(candidate.plan, output, self._watcher.conversion)
        try:
            allocated = self._load(output, candidate)
            baseline = self._measured_baseline(output.parent)
            self._watcher.step(f"measuring {output.name}")
            return self._measure(candidate, output, allocated, baseline)
        except BaseException:
            output.unlink(missing_ok=True)
            raise

    def _load(self, output: Path, candidate: Candidate) -> Footprint:
        """Load the file for real, on the device that was asked, and hold what it takes against the budget."""
        request = self._job.request
        allocated = self._probe.measure(output, candidate.settings(request.n_ctx))
        if not request.budget.holds(allocated):
            raise DoesNotFitError(
                f"{candidate.plan.profile.name} took {format_size(allocated.gpu_bytes)} when it was loaded, more than the "
                f"budget of {format_size(request.budget.vram_bytes)}; planned were "
                f"{format_size(candidate.choice.split.footprint.gpu_bytes)}"
            )
        return allocated

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
                with LlamaRuntime(path, RuntimeSettings(n_ctx=WINDOW)) as runtime:
                    self._baseline = _perplexity(runtime, self._job.measure)
        return self._baseline

    def _measure(self, candidate: Candidate, output: Path, allocated: Footprint, baseline: Perplexity) -> Trial:
        on_gpu = supports_offload()
        kv_type = candidate.choice.kv_type
        settings = RuntimeSettings(
            n_ctx=max(self._job.request.n_ctx, WINDOW),
            n_gpu_layers=candidate.choice.split.n_gpu_layers if on_gpu else 0,
            kv_type_k=kv_type,
            kv_type_v=kv_type,
        )
        with LlamaRuntime(output, settings) as runtime:
            quality = Quality(_perplexity(runtime, self._job.measure, baseline.n_ctx), baseline)
            rates = measure_rates(runtime, self._job.measure.rates)
        return Trial(candidate, output, allocated, quality, rates, on_gpu)


def _perplexity(runtime: LlamaRuntime, measure: MeasureOptions, window: int | None = None) -> Perplexity:
    tokens = runtime.tokenize(measure.text.text)
    if window is None:
        window = max(SHORTEST_WINDOW, min(WINDOW, len(tokens) // 2))
    return measure_perplexity(runtime, tokens, window, measure.max_chunks)


def _heavier(planner: FitPlanner, trial: Trial, max_increase: float) -> Candidate:
    heavier = planner.heavier(trial.candidate)
    if heavier is None:
        raise QualityError(
            f"{trial.candidate.plan.profile.name}, the heaviest profile that fits, raises the perplexity by "
            f"{trial.quality.increase:.1%}, more than --max-ppl-increase {max_increase:.1%}; give more --vram, or accept more"
        )
    return heavier
