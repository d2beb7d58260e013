"""`plan`: how much memory a model takes, and which file, split and settings fit a budget."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit.cli.common import COUNT, json_option
from toolkit.cli.files import INPUT, INPUT_NAME, SOURCE
from toolkit.cli.options import flash_attention_option, kv_list_option, local_files_option, pre_option, prefer_option
from toolkit.cli.places import budget_options, memory_memory_source
from toolkit.cli.planning import plan_request, planning_options, warn_of_long_context
from toolkit.cli.source import is_gguf, resolve_source, told
from toolkit.errors import InputError

if TYPE_CHECKING:
    from toolkit.memory.plannable import PlannableModel
    from toolkit.model_source import ModelSource
    from toolkit.planning.choice import PlannedChoice
    from toolkit.planning.companions import Companion
    from toolkit.planning.planner import Planner
    from toolkit.planning.request import PlanRequest

EXAMPLE = """
\b
Examples:
  gguf-toolkit plan model.gguf --vram 8GiB --ctx 16k
  gguf-toolkit plan ./checkpoint --vram 24GiB,12GiB --profile q4_k_m --profile q6_k
  gguf-toolkit plan config.json --vram 12GiB --max-ctx
  gguf-toolkit plan HuggingFaceTB/SmolLM2-135M-Instruct --vram 1GiB
  gguf-toolkit plan demo --vram 16MiB --sweep ctx=512,1k kv=f16,q8_0 profile=q4_k_m,q8_0
  eval "$(gguf-toolkit plan model.gguf --vram 8GiB --format shell)"
"""
_FORMATS = ["table", "json", "shell", "llama-server", "preset", "ollama", "python"]


@click.command(epilog=EXAMPLE)
@click.argument("source", metavar="SRC", type=SOURCE)
@click.argument("words", nargs=-1, metavar="[WORDS]...")
@budget_options
@click.option("--ctx", "n_ctx", type=COUNT, default="4k", show_default=True, help="Context length, of all sequences.")
@click.option("--profile", "-p", "profiles", type=INPUT_NAME, multiple=True, help="Only this profile; repeatable.")
@kv_list_option(otherwise="f16,q8_0")
@click.option("--parallel", "n_parallel", type=click.IntRange(1, 256), default=1, show_default=True, help="Sequences.")
@click.option("--kv-unified", is_flag=True, help="One KV cache for all sequences.")
@click.option("--ubatch", type=click.IntRange(min=1), default=512, show_default=True, help="Tokens computed at once.")
@flash_attention_option
@click.option("--swa-full", is_flag=True, help="Keep all tokens in sliding-window layers.")
@prefer_option
@click.option("--mmproj", type=INPUT, help="Projector for images, loaded beside the model.")
@click.option("--draft", type=INPUT, help="Draft model (GGUF), loaded beside the model.")
@click.option("--max-ctx", is_flag=True, help="Find the longest context that fits.")
@click.option("--sweep", is_flag=True, help="Grid of ctx=, kv= and profile= lists, given as WORDS.")
@click.option("--gpu-bandwidth", type=click.FloatRange(min=1), help="GB/s of GPU memory; default: asked of the driver.")
@click.option("--ram-bandwidth", type=click.FloatRange(min=1), help="GB/s of RAM; default: measured once.")
@click.option(
    "--device",
    type=click.Choice(["auto", "gpu", "stand-in"]),
    default="auto",
    show_default=True,
    help="Whom to ask for memory.",
)
@pre_option
@local_files_option
@click.option("--no-cache", is_flag=True, help="Neither use nor keep answers on disk.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(_FORMATS),
    default="table",
    show_default=True,
    help="For people, or the best choice for another program.",
)
@json_option
def command(source: str, words: tuple[str, ...], **options: Any) -> None:
    """Show how much memory SRC takes and what fits.

    SRC is a GGUF file, a checkpoint (a directory, or org/name[@revision] on the hub, of which only config, vocabulary and
    the headers of shards are fetched), a config.json, or `demo`. Every number is llama.cpp's own, asked before anything
    is converted or loaded.
    """
    from toolkit.cli.plan_document import Report
    from toolkit.cli.plan_report import print_report
    from toolkit.planning.planner import Planner

    if options["as_json"] and options["format_"] != "table":
        raise click.UsageError("--json and --format are two forms of one answer; give one of them")
    grid = _grid(words) if options["sweep"] else {}
    if words and not options["sweep"]:
        raise InputError(f"{words[0]!r} is one word too many; ctx=, kv= and profile= lists go with --sweep")
    path = resolve_source(source, local_files_only=options["local_files_only"], weights=False)
    model = _model(path, tuple(grid.get("profile", options["profiles"])), options["pre"])
    asked = planning_options(options | {"kv": tuple(grid.get("kv", options["kv"]))})
    if not options["sweep"]:
        warn_of_long_context(asked.n_ctx, model.trained_context)
    request = plan_request(asked, explicit="profile" in grid or bool(options["profiles"]))
    with memory_memory_source(no_cache=options["no_cache"]) as memory_source:
        companions, beside = _companions(options, request, memory_source)
        with Planner(model, beside, memory_source) as planner:
            choices = _choices(planner, model, beside, options, grid)
    report = Report(tuple(choices), model, beside, companions)
    print_report(report, "json" if options["as_json"] else options["format_"])


def _companions(
    options: dict[str, Any], request: "PlanRequest", memory_source: Any
) -> "tuple[tuple[Companion, ...], PlanRequest]":
    """Return the files that lie beside the model, and the request with what they leave of the budgets."""
    if options["mmproj"] is None and options["draft"] is None:
        return (), request
    from toolkit.planning.companions import budgets_beside, draft_model, projector

    settings = replace(request.settings, device="cpu") if request.on_cpu else request.settings
    found = []
    if options["mmproj"] is not None:
        found.append(projector(options["mmproj"]))
    if options["draft"] is not None:
        found.append(draft_model(options["draft"], settings, memory_source))
    return tuple(found), replace(request, budgets=budgets_beside(request.budgets, found))


def _choices(
    planner: "Planner",
    model: "PlannableModel",
    request: "PlanRequest",
    options: dict[str, Any],
    grid: dict[str, list[str]],
) -> "list[PlannedChoice]":
    from toolkit.units import parse_count

    if options["sweep"]:
        return planner.sweep([parse_count(word) for word in grid.get("ctx", [str(options["n_ctx"])])])
    if not options["max_ctx"]:
        return planner.choices()
    at_most = model.trained_context or options["n_ctx"]
    profile = model.profiles[0] if request.explicit or len(model.profiles) == 1 else "Q4_K_M"
    return [planner.longest_context(profile, kv_types, at_most) for kv_types in request.kv_types]


def _model(path: Path, profiles: tuple[str, ...], pre: str | None) -> "PlannableModel":
    """Return the model that SRC means, in these profiles; without any, in all that are worth planning."""
    from toolkit.memory.plannable import model_from_gguf
    from toolkit.memory.plannable_source import model_from_source, profiles_worth_planning
    from toolkit.planning.ranking import LADDER

    if is_gguf(path) and not profiles:
        return model_from_gguf(path)
    if is_gguf(path):
        from toolkit.sources.gguf_source import source_from_gguf

        return model_from_source(source_from_gguf(path), profiles)
    bare = path.suffix == ".json" or _has_config_alone(path)
    model = told(_bare_source(path) if bare else _whole_source(path, pre))
    return model_from_source(model, profiles or profiles_worth_planning(model, LADDER), estimated_file_bytes=bare)


def _bare_source(path: Path) -> "ModelSource":
    # Each way in is imported by itself: reading checkpoints and vocabularies takes long to import.
    from toolkit.sources.config_source import source_from_config

    return source_from_config(path)


def _whole_source(path: Path, pre: str | None) -> "ModelSource":
    from toolkit.sources.hf_source import source_from_checkpoint

    return source_from_checkpoint(path, pre, norms="plain")


def _has_config_alone(path: Path) -> bool:
    weights = ("*.safetensors", "*.safetensors.index.json", "*.bin", "*.pt", "*.pth", "*.gguf", "adapter_config.json")
    return (path / "config.json").is_file() and not any(next(path.glob(pattern), None) for pattern in weights)


def _grid(words: tuple[str, ...]) -> dict[str, list[str]]:
    grid: dict[str, list[str]] = {}
    for word in words:
        name, equals, values = word.partition("=")
        if name not in ("ctx", "kv", "profile") or not equals or not values:
            raise InputError(f"{word!r} is not a part of a sweep; write ctx=4k,8k kv=f16,q8_0 profile=q4_k_m,q6_k")
        grid[name] = [value for value in values.split(",") if value]
    return grid
