"""The main job: plan for a budget, convert, load, measure, and back off to more bits if quality fails."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from toolkit.convert import ConversionOptions, write_gguf
from toolkit.errors import DoesNotFitError, QualityError
from toolkit.evaluation_text import EvaluationText
from toolkit.fit_plan import Candidate, FitPlanner, FitRequest
from toolkit.launch import LaunchPlan
from toolkit.memory import Footprint, MemoryProbe
from toolkit.model_source import ModelSource
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
class FitResult:
    """A file that fits, and the proof."""

    chosen: Candidate
    runners_up: tuple[Candidate, ...]
    rejected: tuple[tuple[Candidate, float], ...]
    """candidates that lost too much quality, and by what share their perplexity grew"""
    launch: LaunchPlan
    allocated: Footprint
    quality: Quality
    rates: TokenRate
    measured_on_gpu: bool
    seconds: float


def fit(
    source: ModelSource,
    request: FitRequest,
    measure: MeasureOptions,
    output_for: Callable[[Candidate], Path],
    watcher: Watcher | None = None,
) -> FitResult:
    """Return the file that fits the budget, converted, loaded and measured.

    Raises DoesNotFitError if nothing fits, or what was loaded takes more than was planned; QualityError if even the
    heaviest profile that fits loses more than `measure.max_increase`; and what conversion and measuring raise.
    """
    watcher = watcher or Watcher()
    started = time.perf_counter()
    with MemoryProbe() as probe, FitPlanner(source, request, probe) as planner:
        watcher.step("asking llama.cpp how much memory each profile takes")
        chosen, *runners_up = planner.candidates()
        rejected: list[tuple[Candidate, float]] = []
        baseline: Perplexity | None = None
        while True:
            output = output_for(chosen)
            watcher.step(f"converting to {chosen.plan.profile.name}")
            write_gguf(chosen.plan, output, watcher.conversion)
            allocated = _load(probe, output, chosen, request)
            baseline = baseline or _baseline(source, output.parent, measure, watcher)
            watcher.step(f"measuring {output.name}")
            quality, rates, on_gpu = _measure(output, chosen, baseline, measure, request)
            if quality.increase <= measure.max_increase:
                break
            rejected.append((chosen, quality.increase))
            output.unlink()
            chosen = _heavier(planner, chosen, quality, measure)
            watcher.step(f"perplexity grew by {quality.increase:.1%}: backing off to {chosen.plan.profile.name}")
    launch = LaunchPlan(output, request.n_ctx, chosen.choice.split.n_gpu_layers, chosen.choice.kv_type)
    seconds = time.perf_counter() - started
    return FitResult(chosen, tuple(runners_up), tuple(rejected), launch, allocated, quality, rates, on_gpu, seconds)


def _load(probe: MemoryProbe, output: Path, chosen: Candidate, request: FitRequest) -> Footprint:
    """Load the file for real, on the device that was asked, and hold what it takes against the plan."""
    allocated = probe.measure(output, chosen.settings(request.n_ctx))
    if not request.budget.holds(allocated):
        output.unlink()
        raise DoesNotFitError(
            f"{chosen.plan.profile.name} took {format_size(allocated.gpu_bytes)} when it was loaded, more than the budget of "
            f"{format_size(request.budget.vram_bytes)}; it was planned with {format_size(chosen.choice.split.footprint.gpu_bytes)}"
        )
    return allocated


def _baseline(source: ModelSource, folder: Path, measure: MeasureOptions, watcher: Watcher) -> Perplexity:
    """Measure the unquantized model, from a file that is removed afterwards."""
    types = {tensor.source.type.name for tensor in source.tensors if len(tensor.shape) > 1}
    profile = load_profile("f32" if "F32" in types else "f16" if types == {"F16"} else "bf16")
    watcher.step(f"measuring the unquantized model ({profile.name})")
    with tempfile.TemporaryDirectory(prefix=".gguf-toolkit-", dir=folder) as scratch:
        path = Path(scratch) / "baseline.gguf"
        write_gguf(plan_conversion(source, profile), path, ConversionOptions(allow_nan=watcher.conversion.allow_nan))
        with LlamaRuntime(path, RuntimeSettings(n_ctx=WINDOW, n_gpu_layers=_layers_for_baseline())) as runtime:
            return _perplexity(runtime, measure)


def _layers_for_baseline() -> int:
    return 0  # the budget is the quantized file's; the baseline may be far larger than the GPU


def _measure(
    output: Path, chosen: Candidate, baseline: Perplexity, measure: MeasureOptions, request: FitRequest
) -> tuple[Quality, TokenRate, bool]:
    on_gpu = supports_offload()
    kv_type = chosen.choice.kv_type
    settings = RuntimeSettings(
        n_ctx=max(request.n_ctx, WINDOW),
        n_gpu_layers=chosen.choice.split.n_gpu_layers if on_gpu else 0,
        kv_type_k=kv_type,
        kv_type_v=kv_type,
    )
    with LlamaRuntime(output, settings) as runtime:
        quality = Quality(_perplexity(runtime, measure, baseline.n_ctx), baseline)
        return quality, measure_rates(runtime, measure.rates), on_gpu


def _perplexity(runtime: LlamaRuntime, measure: MeasureOptions, window: int | None = None) -> Perplexity:
    tokens = runtime.tokenize(measure.text.text)
    if window is None:
        window = max(SHORTEST_WINDOW, min(WINDOW, len(tokens) // 2))
    return measure_perplexity(runtime, tokens, window, measure.max_chunks)


def _heavier(planner: FitPlanner, chosen: Candidate, quality: Quality, measure: MeasureOptions) -> Candidate:
    heavier = planner.heavier(chosen)
    if heavier is None:
        raise QualityError(
            f"{chosen.plan.profile.name}, the heaviest profile that fits, raises the perplexity by {quality.increase:.1%}, more "
            f"than --max-ppl-increase {measure.max_increase:.1%}; give more --vram, or accept more"
        )
    return heavier
