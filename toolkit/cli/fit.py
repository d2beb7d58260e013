"""`fit`: the main job, from a checkpoint and a budget to a file that fits, with proof."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit.cli.chat_templates import given_template, writes_chat_template
from toolkit.cli.common import COUNT, emit_json, json_option, note
from toolkit.cli.files import INPUT_NAME, OUTPUT, SOURCE
from toolkit.cli.foreign import converter_options, source_from_converter
from toolkit.cli.measuring import text_option
from toolkit.cli.options import (
    flash_attention_option,
    force_option,
    imatrix_option,
    kv_list_option,
    local_files_option,
    norms_option,
    pre_option,
    prefer_option,
    repetitions_option,
    threads_option,
)
from toolkit.cli.places import budget_options, memory_memory_source, sizes
from toolkit.cli.planning import plan_request, planning_options, warn_of_long_context
from toolkit.cli.source import resolve_source, told, told_importance
from toolkit.errors import InputError

if TYPE_CHECKING:
    from toolkit.fit import Devices, FitJob, FitResult, MeasureOptions
    from toolkit.measures.standard import Use
    from toolkit.model_source import ModelSource
    from toolkit.planning.choice import PlannedChoice
    from toolkit.planning.request import PlanRequest

EXAMPLE = """
\b
Examples:
  gguf-toolkit fit demo --vram 16MiB --ctx 512
  gguf-toolkit fit ./SmolLM2-135M-Instruct --vram 1GiB --ctx 8k --json
  gguf-toolkit fit ./model --vram 8GiB --ctx 16k --prefer quality --out models/
  gguf-toolkit fit ./model --vram 24GiB,12GiB --use code --text repository.txt
"""


@click.command(epilog=EXAMPLE)
@click.argument("source", metavar="SRC", type=SOURCE)
@budget_options
@click.option("--ctx", "n_ctx", type=COUNT, default="4k", show_default=True, help="Context length, e.g. 16k.")
@prefer_option
@click.option(
    "--profile", "-p", "profiles", type=INPUT_NAME, multiple=True, help="Only this profile; repeatable, best first."
)
@kv_list_option(otherwise="f16,q8_0")
@flash_attention_option
@imatrix_option
@writes_chat_template
@click.option(
    "--use", metavar="USE", help="What it is for (chat, code, ...): its thresholds decide, on --text of its kind."
)
@click.option(
    "--max-ppl-increase",
    type=click.FloatRange(min=0),
    default=3.0,
    show_default=True,
    help="Most that the perplexity may grow, %.",
)
@text_option
@click.option("--chunks", type=click.IntRange(min=1), default=20, show_default=True, help="Windows to measure on.")
@repetitions_option(3)
@click.option(
    "--out",
    "--output",
    "-o",
    "out",
    type=OUTPUT,
    help="File, or folder for a file of the default name.",
)
@force_option
@pre_option
@norms_option
@threads_option
@converter_options
@local_files_option
@json_option
def command(source: str, **options: Any) -> None:
    """Make the best GGUF file of the checkpoint SRC that fits a VRAM budget, and prove it.

    SRC is a directory, a model on the hub (org/name[@revision]), or `demo`. Memory is asked of llama.cpp before anything
    is converted. The file is loaded, its perplexity is compared with the unquantized model's and its token rates are
    measured; if it lost too much, a heavier profile with fewer layers on the GPU takes its place. Without a GPU it plans
    for the budget all the same and measures on the CPU.
    """
    from toolkit.cli.fit_report import document, print_report

    model = given_template(told(_model(source, options)), options["chat_template"])
    job = _job(model, options)
    result = _run(job, options)
    if options["as_json"]:
        emit_json("fit", document(result, job.request))
    else:
        print_report(result, job.request)


def _model(source: str, options: dict[str, Any]) -> "ModelSource":
    from toolkit.sources.hf_source import source_from_checkpoint

    directory = resolve_source(source, local_files_only=options["local_files_only"])
    if options["converter"] is not None:
        return source_from_converter(directory, options["out"], options["converter"], options["converter_python"])
    return source_from_checkpoint(directory, options["pre"], norms=options["norms"])


def _job(model: "ModelSource", options: dict[str, Any]) -> "FitJob":
    from toolkit.fit import FitJob
    from toolkit.memory.plannable_source import model_from_source, profiles_worth_planning
    from toolkit.planning.ranking import LADDER
    from toolkit.quant_profile import load_profile

    named = tuple(load_profile(name).name for name in options["profiles"])
    profiles = named or profiles_worth_planning(model, LADDER)
    imatrix = told_importance(options["imatrix"], model)
    plannable = model_from_source(model, profiles, imatrix)
    warn_of_long_context(options["n_ctx"], plannable.trained_context)
    request = plan_request(planning_options(options), explicit=False, runs=True)
    return FitJob(model, plannable, request, _measure_options(options))


def _measure_options(options: dict[str, Any]) -> "MeasureOptions":
    from toolkit.fit import MeasureOptions
    from toolkit.fit_quality import QualityOptions
    from toolkit.measures.evaluation_text import named_text
    from toolkit.measures.standard import GENERAL
    from toolkit.measures.token_rate import RateSettings

    use = _use(options)
    quality = QualityOptions(
        named_text(options["text"]),
        use.text if use is not None else GENERAL,
        options["chunks"],
        options["max_ppl_increase"] / 100,
        use,
    )
    return MeasureOptions(quality, RateSettings(repetitions=options["repetitions"]))


def _use(options: dict[str, Any]) -> "Use | None":
    """Return the use whose thresholds decide.

    Raises InputError if there is no such use, or no text of its kind.
    """
    from toolkit.measures.evaluation_text import DEMO
    from toolkit.measures.standard import GENERAL
    from toolkit.measures.standard_file import read_standard

    if options["use"] is None:
        return None
    uses = {use.name: use for use in read_standard().uses}
    use = uses.get(options["use"])
    if use is None:
        raise InputError(f"--use {options['use']!r} is not one of {', '.join(uses)}")
    if use.text != GENERAL and options["text"] == DEMO:
        raise InputError(f"--use {use.name} is judged on text of its kind; give a sample of it with --text FILE")
    if options["n_ctx"] < use.least_window:
        raise InputError(f"--use {use.name} is judged in windows of {use.least_window:,} tokens; give a longer --ctx")
    return use


def _run(job: "FitJob", options: dict[str, Any]) -> "FitResult":
    from toolkit.cli.progress import progress_bar
    from toolkit.conversion.convert import ConversionOptions
    from toolkit.fit import Watcher, fit
    from toolkit.gguf.output_file import check_output
    from toolkit.verbs.conversion import output_path
    from toolkit.verification.file_check import check_finished

    def output_for(choice: "PlannedChoice") -> Path:
        path = output_path(options["out"], job.source.name, choice.file.profile)
        check_output(path, force=options["force"])
        return path

    largest = sum(tensor.source.type.tensor_bytes(tensor.shape) for tensor in job.source.tensors)
    with _devices(job.request, options) as devices, progress_bar("converting", largest) as advance:
        conversion = ConversionOptions(options["threads"], options["force"], progress=advance, check=check_finished)
        return fit(job, devices, output_for, Watcher(note, conversion))


@contextmanager
def _devices(request: "PlanRequest", options: dict[str, Any]) -> "Iterator[Devices]":
    """Give the devices to load on: those of this machine and the servers, or a stand-in to ask and the CPU to measure on."""
    from toolkit.fit import Devices
    from toolkit.llama.device_choice import choose_devices
    from toolkit.llama.ggml_devices import offload_devices
    from toolkit.memory.probe import MemoryProbe
    from toolkit.planning.load_plan import BudgetLimits, read_budgets

    here = bool(offload_devices()) or bool(request.settings.rpc) or request.on_cpu
    with MemoryProbe() as probe, memory_memory_source(in_child=not request.settings.rpc, probe=probe) as memory_source:
        if not here:
            yield Devices(memory_source, allocate=probe.measure)
            return
        found = () if request.on_cpu else choose_devices(request.settings)[0]
        # Where nothing was given, what was free when it was planned is no limit to what is free later.
        given = request.budgets.vram_bytes if sizes(options["vram"]) else None
        limits = BudgetLimits(given, options["ram"], request.budgets.margin_bytes)
        yield Devices(memory_source, lambda: read_budgets(found, limits), release=probe.close)
