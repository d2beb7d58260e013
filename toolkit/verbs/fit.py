"""`fit`: from a checkpoint and a budget to the best file that fits, converted, loaded and measured."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Literal

from toolkit.conversion.convert import ConversionOptions
from toolkit.errors import InputError
from toolkit.fitting.quality import QualityOptions
from toolkit.fitting.trials import Devices, FitJob, FitResult, MeasureOptions, find_fit
from toolkit.gguf.output_file import check_output
from toolkit.llama.devices import choose_devices
from toolkit.llama.ggml_devices import offload_devices
from toolkit.measures.evaluation_text import DEMO, named_text
from toolkit.measures.token_rate import RateSettings
from toolkit.measures.verdict_rules import GENERAL, UseCase, read_verdict_rules
from toolkit.memory.plannable import model_from_source, profiles_worth_planning
from toolkit.memory.probe import MemoryProbe
from toolkit.model_source import ModelSource
from toolkit.planning.choice import PlannedChoice
from toolkit.planning.load_plan import BudgetLimits, read_budgets
from toolkit.planning.ranking import LADDER
from toolkit.planning.request import PlanningRequest
from toolkit.quant_profile import load_profile
from toolkit.reporter import Reporter
from toolkit.sources.hf_source import source_from_checkpoint
from toolkit.sources.upstream_converter import find_converter, source_from_converter
from toolkit.verbs.chat_templates import use_chat_template
from toolkit.verbs.conversion import output_path
from toolkit.verbs.devices import PathName, open_memory_source
from toolkit.verbs.model_names import read_imatrix_for, report_warnings, resolve_source
from toolkit.verbs.planning import PlanningFields, planning_request, warn_of_long_context
from toolkit.verbs.values import Positive
from toolkit.verbs.verb import verb
from toolkit.verification.file_check import check_finished

__all__ = ["FitRequest", "FitResult", "fit"]


@dataclass(frozen=True)
class FitRequest(PlanningFields):
    """A checkpoint, the budgets, and how much quality may be lost."""

    source: Path | str
    """directory, model on the hub (org/name[@revision]), or `demo`"""
    _: KW_ONLY
    profiles: Sequence[str] = ()
    """only these, best first; none stands for all that are worth planning"""
    imatrix: PathName | None = None
    """importance matrix (GGUF or legacy .dat)"""
    chat_template: PathName | None = None
    """chat template to write in place of the model's own"""
    use: str | None = None
    """what it is for (chat, code, ...): its thresholds decide, on a text of its kind"""
    max_ppl_increase: float = 3.0
    """most that the perplexity may grow, in per cent"""
    text: str | None = None
    """text file in UTF-8, `wikitext-2`, or `demo`, which is the default"""
    chunks: Positive = 20
    """chunks to measure on"""
    repetitions: Positive = 3
    """measurements of each token rate"""
    output: Path | str | None = None
    """file, or folder for a file of the default name; None is the current folder"""
    force: bool = False
    """replace an existing output"""
    pre: str | None = None
    """name of the BPE pre-tokenizer, where it is not recognised"""
    norms: Literal["checked", "plain", "shifted"] = "checked"
    """whether norms that llama.cpp wants with 1 added have it already"""
    threads: Positive | None = None
    """CPU threads; None is the number of physical cores"""
    converter: PathName | None = None
    """checkout of llama.cpp whose own converter is run first"""
    converter_python: str = sys.executable
    """interpreter for it, with torch and what else it needs"""
    local_files_only: bool = False
    """for a model on the hub, use the copy in the cache"""


@verb(FitRequest)
def fit(request: FitRequest, reporter: Reporter) -> FitResult:
    """Make the best GGUF file of a checkpoint that fits a VRAM budget, and prove it.

    ```python
    result = toolkit.fit("checkpoint", vram="8GiB", n_ctx="16k")
    print(result.trial.output, result.launch.n_gpu_layers)
    ```

    Raises DoesNotFitError if nothing fits, QualityError if even the heaviest file that fits loses too much, and what
    `convert` and `perplexity` raise.
    """
    with ExitStack() as scratch:
        source = report_warnings(_source(request, reporter, scratch), reporter)
        job = _job(use_chat_template(source, request.chat_template, reporter), request, reporter)
        devices = scratch.enter_context(_devices(job.request, request, reporter))

        def output_for(choice: PlannedChoice) -> Path:
            path = output_path(_output(request), job.source.name, choice.file.profile)
            check_output(path, force=request.force)
            return path

        return find_fit(job, devices, output_for, reporter)


def _output(request: FitRequest) -> Path | None:
    return None if request.output is None else Path(request.output)


def _source(request: FitRequest, reporter: Reporter, scratch: ExitStack) -> ModelSource:
    directory = resolve_source(str(request.source), reporter, scratch, local_files_only=request.local_files_only)
    if request.converter is not None:
        converter = find_converter(Path(request.converter), request.converter_python)
        return source_from_converter(directory, _output(request), converter, reporter, scratch)
    return source_from_checkpoint(directory, request.pre, norms=request.norms)


def _job(source: ModelSource, request: FitRequest, reporter: Reporter) -> FitJob:
    named = tuple(load_profile(name).name for name in request.profiles)
    imatrix = read_imatrix_for(source, request.imatrix, reporter)
    model = model_from_source(source, named or profiles_worth_planning(source, LADDER), imatrix)
    warn_of_long_context(request.context, model.trained_context, reporter)
    planning = planning_request(request, reporter, explicit=False, runs=True)
    conversion = ConversionOptions(request.threads, request.force, check=check_finished)
    return FitJob(source, model, planning, _measure_options(request), conversion)


def _measure_options(request: FitRequest) -> MeasureOptions:
    use = _use(request)
    quality = QualityOptions(
        named_text(request.text or DEMO),
        use.text if use is not None else GENERAL,
        request.chunks,
        request.max_ppl_increase / 100,
        use,
    )
    return MeasureOptions(quality, RateSettings(repetitions=request.repetitions))


def _use(request: FitRequest) -> UseCase | None:
    """Return the use whose thresholds decide.

    Raises InputError if there is no such use, or no text of its kind.
    """
    if request.use is None:
        return None
    uses = {use.name: use for use in read_verdict_rules().use_cases}
    use = uses.get(request.use)
    if use is None:
        raise InputError(f"--use {request.use!r} is not one of {', '.join(uses)}")
    if use.text != GENERAL and (request.text or DEMO) == DEMO:
        raise InputError(f"--use {use.name} is judged on text of its kind; give a sample of it with --text FILE")
    if request.context < use.least_chunk_tokens:
        raise InputError(
            f"--use {use.name} is judged in chunks of {use.least_chunk_tokens:,} tokens; give a longer --ctx"
        )
    return use


@contextmanager
def _devices(planning: PlanningRequest, request: FitRequest, reporter: Reporter) -> Iterator[Devices]:
    """Give the devices to load on: those of this machine and the servers, or a simulated one to ask and the CPU to measure on."""
    here = bool(offload_devices()) or bool(planning.settings.rpc) or planning.on_cpu
    in_child = not planning.settings.rpc
    with MemoryProbe() as probe, open_memory_source(reporter, in_child=in_child, probe=probe) as memory_source:
        if not here:
            yield Devices(memory_source, allocate=probe.measure)
            return
        devices = () if planning.on_cpu else choose_devices(planning.settings)[0]
        # Where nothing was given, what was free when it was planned is no limit to what is free later.
        given = planning.budgets.vram_bytes if request.vram_bytes else None
        limits = BudgetLimits(given, request.ram_bytes, planning.budgets.margin_bytes)
        yield Devices(memory_source, lambda: read_budgets(devices, limits), release=probe.close)
