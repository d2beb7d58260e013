"""`plan`: how much memory a model takes, and which file, split and settings fit a budget."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit.cli.common import COUNT, SIZE, json_option, warn
from toolkit.cli.source import local_files_option, resolve_source
from toolkit.errors import InputError

if TYPE_CHECKING:
    from toolkit.companions import Companion
    from toolkit.memory import MemorySettings
    from toolkit.model_source import ModelSource
    from toolkit.plan import KvTypes, PlannedChoice, Planner, PlanRequest
    from toolkit.plannable import PlannableModel

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
@click.argument("source", metavar="SRC")
@click.argument("words", nargs=-1, metavar="[WORDS]...")
@click.option(
    "--vram", metavar="SIZE[,SIZE...]", help="Budget of each GPU; 0: the CPU alone. Default: what is free now."
)
@click.option("--ram", type=SIZE, help="Budget of RAM; default: what is available now.")
@click.option("--ctx", "n_ctx", type=COUNT, default="4k", show_default=True, help="Context length, of all sequences.")
@click.option("--margin", type=SIZE, help="Memory to leave free on each GPU; default: 6 % of it, at most 512 MiB.")
@click.option("--profile", "-p", "profiles", multiple=True, help="Only this profile; repeatable.")
@click.option(
    "--kv", multiple=True, metavar="TYPE[/TYPE]", help="KV type, or K/V types; repeatable; default: f16, q8_0."
)
@click.option("--parallel", "n_parallel", type=click.IntRange(1, 256), default=1, show_default=True, help="Sequences.")
@click.option("--kv-unified", is_flag=True, help="One KV cache for all sequences.")
@click.option("--ubatch", type=click.IntRange(min=1), default=512, show_default=True, help="Tokens computed at once.")
@click.option("--flash-attention", "-fa", type=click.Choice(["auto", "on", "off"]), default="auto", show_default=True)
@click.option("--swa-full", is_flag=True, help="Keep all tokens in sliding-window layers.")
@click.option("--prefer", type=click.Choice(["balance", "speed", "quality"]), default="balance", show_default=True)
@click.option("--mmproj", type=click.Path(path_type=Path), help="Projector for images, loaded beside the model.")
@click.option("--draft", type=click.Path(path_type=Path), help="Draft model (GGUF), loaded beside the model.")
@click.option("--max-ctx", is_flag=True, help="Find the longest context that fits.")
@click.option("--sweep", is_flag=True, help="Grid of ctx=, kv= and profile= lists, given as WORDS.")
@click.option("--rpc", multiple=True, metavar="HOST:PORT", help="llama.cpp RPC server; its --vram follows the GPUs'.")
@click.option("--rpc-required", is_flag=True, help="Stop if a server does not answer, instead of going on without it.")
@click.option("--rpc-insecure", is_flag=True, help="Accept servers outside private networks.")
@click.option("--gpu-bandwidth", type=click.FloatRange(min=1), help="GB/s of GPU memory; default: asked of the driver.")
@click.option("--ram-bandwidth", type=click.FloatRange(min=1), help="GB/s of RAM; default: measured once.")
@click.option(
    "--device", type=click.Choice(["auto", "gpu", "stand-in"]), default="auto", help="Whom to ask for memory."
)
@click.option("--pre", metavar="NAME", help="Name of the BPE pre-tokenizer, where it is not recognised.")
@local_files_option
@click.option("--no-cache", is_flag=True, help="Neither use nor keep answers on disk.")
@click.option("--format", "format_", type=click.Choice(_FORMATS), default="table", show_default=True)
@json_option
def command(source: str, words: tuple[str, ...], **options: Any) -> None:
    """Show how much memory SRC takes and what fits.

    SRC is a GGUF file, a checkpoint (a directory, or org/name[@revision] on the hub, of which only config, vocabulary and
    the headers of shards are fetched), a config.json, or `demo`. Every number is llama.cpp's own, asked before anything is converted or loaded.
    """
    from toolkit.cli.plan_report import Report, print_report
    from toolkit.plan import Planner

    grid = _grid(words) if options["sweep"] else {}
    if words and not options["sweep"]:
        raise InputError(f"{words[0]!r} is one word too many; ctx=, kv= and profile= lists go with --sweep")
    path = resolve_source(source, local_files_only=options["local_files_only"], weights=False)
    model = _model(path, tuple(grid.get("profile", options["profiles"])), options["pre"])
    request = _request(model, tuple(grid.get("kv", options["kv"])), options, explicit="profile" in grid)
    with _probe(options["no_cache"]) as asker:
        companions, beside = _companions(options, request, asker)
        with Planner(model, beside, asker) as planner:
            choices = _choices(planner, model, beside, options, grid)
    report = Report(tuple(choices), model, beside, companions)
    print_report(report, "json" if options["as_json"] else options["format_"])


def _companions(
    options: dict[str, Any], request: "PlanRequest", asker: Any
) -> "tuple[tuple[Companion, ...], PlanRequest]":
    """Return the files that lie beside the model, and the request with what they leave of the budgets."""
    if options["mmproj"] is None and options["draft"] is None:
        return (), request
    from toolkit.companions import budgets_beside, draft_model, projector

    settings = replace(request.settings, device="cpu") if request.on_cpu else request.settings
    found = []
    if options["mmproj"] is not None:
        found.append(projector(options["mmproj"]))
    if options["draft"] is not None:
        found.append(draft_model(options["draft"], settings, asker))
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


def _probe(no_cache: bool) -> Any:
    """Return a context that gives whom to ask: llama.cpp in a child process, or a formula where it cannot be asked."""
    from contextlib import contextmanager

    from toolkit.disk_cache import cache_folder
    from toolkit.memory import MemoryProbe
    from toolkit.memory_cache import CachedProbe, MemoryCache
    from toolkit.memory_estimate import EstimatingProbe
    from toolkit.offload_build import offload_build

    @contextmanager
    def opened() -> Any:
        with MemoryProbe() as probe:
            cached = CachedProbe(probe, MemoryCache(None if no_cache else cache_folder()))
            asker = EstimatingProbe(cached.ask if offload_build().installed else None)
            yield asker
            if asker.why:
                warn(f"memory is estimated by formula, not asked of llama.cpp: {asker.why}")

    return opened()


def _model(path: Path, profiles: tuple[str, ...], pre: str | None) -> "PlannableModel":
    """Return the model that SRC means, in these profiles; without any, in all that are worth planning."""
    from toolkit.plannable import model_from_gguf, model_from_source
    from toolkit.planner import LADDER

    if path.suffix == ".gguf" and not profiles:
        return model_from_gguf(path)
    if path.suffix == ".gguf":
        from toolkit.gguf_source import source_from_gguf

        return model_from_source(source_from_gguf(path), profiles)
    bare = path.suffix == ".json" or _has_config_alone(path)
    model = _bare_source(path) if bare else _whole_source(path, pre)
    for message in model.warnings:
        warn(message)
    return model_from_source(model, profiles or LADDER, estimated_file_bytes=bare)


def _bare_source(path: Path) -> "ModelSource":
    # Each way in is imported by itself: reading checkpoints and vocabularies takes long to import.
    from toolkit.config_source import source_from_config

    return source_from_config(path)


def _whole_source(path: Path, pre: str | None) -> "ModelSource":
    from toolkit.hf_source import source_from_checkpoint

    return source_from_checkpoint(path, pre)


def _has_config_alone(path: Path) -> bool:
    weights = ("*.safetensors", "*.safetensors.index.json", "*.bin", "*.pt", "*.pth", "*.gguf", "adapter_config.json")
    return (path / "config.json").is_file() and not any(next(path.glob(pattern), None) for pattern in weights)


def _request(model: "PlannableModel", kv: tuple[str, ...], options: dict[str, Any], *, explicit: bool) -> "PlanRequest":
    from toolkit.devices import read_ram
    from toolkit.plan import PlanRequest
    from toolkit.planner import Prefer
    from toolkit.split_search import Budgets, default_margin

    if model.trained_context and options["n_ctx"] > model.trained_context and not options["sweep"]:
        warn(
            f"--ctx {options['n_ctx']:,} is beyond the {model.trained_context:,} tokens that the model was trained for"
        )
    vram, endpoints = _devices(options)
    margin = options["margin"]
    if margin is None:
        margin = default_margin(vram)
    ram = options["ram"] if options["ram"] is not None else read_ram().available_bytes
    kv_types = tuple(_kv_types(text) for text in kv) or (("f16", "f16"), ("q8_0", "q8_0"))
    return PlanRequest(
        Budgets(vram, ram, margin),
        _settings(options, len(vram), endpoints),
        _bandwidths(options, on_cpu=not any(vram)),
        kv_types if kv or options["flash_attention"] != "off" else kv_types[:1],
        Prefer(options["prefer"]),
        explicit or bool(options["profiles"]),
    )


def _settings(options: dict[str, Any], n_vram: int, endpoints: tuple[str, ...]) -> "MemorySettings":
    from toolkit.memory import MemorySettings

    n_gpus = n_vram - len(endpoints)
    if endpoints and n_gpus < 0:
        raise InputError(
            f"--vram has {n_vram} sizes for {len(endpoints)} RPC servers; give one for each GPU, then for each server"
        )
    return MemorySettings(
        options["n_ctx"],
        n_batch=max(512, options["ubatch"]),
        n_ubatch=options["ubatch"],
        flash_attention=options["flash_attention"],
        device="cpu" if endpoints and not n_gpus else options["device"],
        n_parallel=options["n_parallel"],
        kv_unified=options["kv_unified"],
        swa_full=options["swa_full"],
        n_devices=max(1, n_gpus),
        rpc=endpoints,
    )


def _devices(options: dict[str, Any]) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return the budgets of GPUs and servers, and the servers that answer."""
    from toolkit.errors import EnvironmentFaultError
    from toolkit.rpc_endpoints import check_reachable, parse_endpoint

    endpoints = [parse_endpoint(text, insecure=options["rpc_insecure"]) for text in options["rpc"]]
    vram = list(_budgets(options))
    if endpoints and len(vram) < len(endpoints):
        raise InputError(
            f"--vram has {len(vram)} sizes for {len(endpoints)} RPC servers; give one for each GPU, then for each server"
        )
    n_gpus = len(vram) - len(endpoints)
    up = []
    for index, endpoint in enumerate(endpoints):
        try:
            check_reachable(endpoint)
        except EnvironmentFaultError as error:
            if options["rpc_required"]:
                raise
            warn(f"{error}; planned without it")
        else:
            up.append((str(endpoint), vram[n_gpus + index]))
    return (*vram[:n_gpus], *[size for _, size in up]), tuple(name for name, _ in up)


def _budgets(options: dict[str, Any]) -> tuple[int, ...]:
    """Return the budgets given by hand, or what is free on the GPUs now."""
    from toolkit.devices import list_gpus
    from toolkit.offload_build import offload_build, reinstall_line
    from toolkit.units import format_size, parse_size

    gpus = list_gpus().gpus
    build = offload_build()
    if gpus and build.installed and not build.offloads:
        warn(f"llama-cpp-python was built without offload, {gpus[0].name} stays idle; reinstall it: {reinstall_line()}")
    if options["vram"] is None:
        if not gpus:
            warn("no GPU was found and no --vram was given: planned for the CPU alone")
        return tuple(gpu.free_bytes for gpu in gpus) or (0,)
    sizes = tuple(parse_size(text) for text in options["vram"].split(","))
    for gpu, size in zip(gpus, sizes, strict=False):
        if gpu.free_bytes < size:
            warn(f"{gpu.name} has {format_size(gpu.free_bytes)} free now, less than --vram {format_size(size)}")
    return sizes


def _kv_types(text: str) -> "KvTypes":
    from toolkit.ggml_types import tensor_type

    keys, _, values = text.partition("/")
    for name in (keys, values or keys):
        if name.lower() not in ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"):
            raise InputError(f"KV type {name!r} is not one of f32, f16, bf16, q8_0, q5_1, q5_0, q4_1, q4_0, iq4_nl")
        tensor_type(name)
    return keys.lower(), (values or keys).lower()


def _bandwidths(options: dict[str, Any], *, on_cpu: bool) -> Any:
    from toolkit.bandwidth import gpu_bandwidths, ram_bandwidth
    from toolkit.token_speed import GIGA, Bandwidths

    given = options["gpu_bandwidth"]
    gpus = () if on_cpu else (given * GIGA,) if given else gpu_bandwidths()
    ram = options["ram_bandwidth"]
    return Bandwidths(
        gpus, ram * GIGA if ram else ram_bandwidth(), "given" if given else "measured" if gpus else "assumed"
    )


def _grid(words: tuple[str, ...]) -> dict[str, list[str]]:
    grid: dict[str, list[str]] = {}
    for word in words:
        name, equals, values = word.partition("=")
        if name not in ("ctx", "kv", "profile") or not equals or not values:
            raise InputError(f"{word!r} is not a part of a sweep; write ctx=4k,8k kv=f16,q8_0 profile=q4_k_m,q6_k")
        grid[name] = [value for value in values.split(",") if value]
    return grid
