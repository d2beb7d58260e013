"""What every command that loads a model shares: how that is planned, and what it took."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit.cli.common import Function, note, warn
from toolkit.cli.options import Option, add_options, flash_attention_option, kv_option, threads_option
from toolkit.cli.places import (
    BUDGET_OPTIONS,
    Places,
    memory_memory_source,
    places,
    servers_that_answer,
    sizes,
    warn_of_idle_gpu,
)
from toolkit.errors import InputError
from toolkit.verbs.kv_types import kv_pair

if TYPE_CHECKING:
    from toolkit.llama.footprint import Footprint
    from toolkit.llama.ggml_devices import GgmlDevice
    from toolkit.llama.load_settings import TensorOverride
    from toolkit.llama.runtime import LlamaRuntime
    from toolkit.llama.runtime_settings import RuntimeSettings
    from toolkit.planning.load_plan import BudgetLimits, LoadPlan, LoadRequest

_BATCH = 512
PLACE_OPTIONS: tuple[Option[Any], ...] = (
    *BUDGET_OPTIONS,
    flash_attention_option,
    click.option(
        "--override-tensor", "-ot", multiple=True, metavar="PATTERN=BUFFER", help="Where tensors lie; repeatable."
    ),
    click.option("--no-mmap", is_flag=True, help="Read the file into memory instead of mapping it."),
)


LOADING_OPTIONS: tuple[Option[Any], ...] = (
    click.option("-ngl", "--n-gpu-layers", type=click.IntRange(min=0), help="Layers on the GPU; default: what fits."),
    kv_option,
    threads_option,
    *PLACE_OPTIONS,
)


def loading_options(function: Function) -> Function:
    """Add the options of a command that loads one model."""
    return add_options(function, LOADING_OPTIONS)


def place_options(function: Function) -> Function:
    """Add those that say where a model may lie, to a command that takes several values of the rest."""
    return add_options(function, PLACE_OPTIONS)


@dataclass(frozen=True)
class LoadOptions:
    """How to load one model."""

    n_gpu_layers: int | None = None
    """None lets it be planned"""
    kv: str = "f16"
    threads: int | None = None
    places: Places = field(default_factory=Places)
    n_parallel: int = 1
    """sequences that are evaluated side by side"""
    scored: range = range(-1, 0)
    """positions of a sequence whose logits are wanted"""
    quiet: bool = False
    """whether nothing is said of a load that went as planned"""

    @property
    def kv_types(self) -> tuple[str, str]:
        """Return the types of keys and values."""
        return kv_pair(self.kv)


@dataclass(frozen=True)
class Opened:
    """A model that is loaded, how that was planned, and what it takes; None where llama.cpp does not tell."""

    runtime: "LlamaRuntime"
    plan: "LoadPlan"
    allocated: "Footprint | None"


def load_options(options: dict[str, Any]) -> LoadOptions:
    """Return what `loading_options` read."""
    return LoadOptions(
        n_gpu_layers=options["n_gpu_layers"],
        kv=options["kv"],
        threads=options["threads"],
        places=places(options),
        quiet=bool(options.get("as_json")),
    )


@contextmanager
def opened(
    path: Path, load: LoadOptions, n_ctx: int, on_tensor: Any = None, beside: Sequence[Opened] = ()
) -> Iterator[Opened]:
    """Plan for what is free, load sequences of n_ctx tokens, and say what was taken.

    There is a warning where n_ctx is beyond the trained context.

    What is loaded `beside` has taken its parts of the budgets.

    Raises DoesNotFitError instead of loading what does not fit.
    """
    from dataclasses import replace

    from toolkit.llama.runtime import LlamaRuntime
    from toolkit.llama.runtime_settings import runtime_settings

    plan = plan_of(path, load, n_ctx, beside)
    warn_of_idle_gpu(plan.choice)
    _warn_of_paging(plan)
    settings: RuntimeSettings = runtime_settings(plan.settings, load.threads, use_mmap=plan.request.use_mmap)
    with LlamaRuntime(path, replace(settings, on_tensor=on_tensor)) as runtime:
        if n_ctx > runtime.n_ctx_train:
            warn(f"{path.name} was trained for {runtime.n_ctx_train:,} tokens, fewer than the {n_ctx:,} measured")
        one = Opened(runtime, plan, runtime.told_footprint())
        if not load.quiet:
            tell_of_load(one)
        yield one


def _warn_of_paging(plan: "LoadPlan") -> None:
    from toolkit.units import format_size

    in_all, available = plan.choice.footprint.host_bytes, plan.budgets.ram_bytes
    if in_all > available:
        warn(
            f"{plan.request.path.name} needs {format_size(in_all)} of RAM with its mapped weights, and {format_size(available)} are "
            "available: they will be read from disk again and again"
        )


def plan_of(path: Path, load: LoadOptions, n_ctx: int, beside: Sequence[Opened] = ()) -> "LoadPlan":
    """Return how a file is loaded here and now."""
    from toolkit.planning.load_plan import plan_just_before_loading, read_budgets

    in_use = tuple(server for one in beside for server in one.plan.settings.rpc)
    request, devices, limits = _request(path, load, n_ctx, in_use)
    for one in beside:
        limits = limits.beside(one.allocated or one.plan.choice.footprint, devices)
    asking = partial(memory_memory_source, in_child=not request.settings.rpc)
    return plan_just_before_loading(request, lambda: read_budgets(devices, limits), asking, note)


def _request(
    path: Path, load: LoadOptions, n_ctx: int, in_use: tuple[str, ...]
) -> "tuple[LoadRequest, tuple[GgmlDevice, ...], BudgetLimits]":
    from toolkit.llama.batch import most_outputs
    from toolkit.llama.device_choice import choose_devices
    from toolkit.llama.ggml_devices import offload_devices
    from toolkit.llama.load_settings import LoadSettings
    from toolkit.planning.load_plan import BudgetLimits, LoadRequest

    where, n_gpus = load.places, len(offload_devices())
    vram, endpoints = servers_that_answer(where, sizes(where.vram), "loaded without it", in_use)
    n_tokens = n_ctx * load.n_parallel
    batch = min(_BATCH, n_tokens)
    settings = LoadSettings(
        n_tokens,
        n_batch=batch,
        n_ubatch=batch,
        kv_type_k=load.kv_types[0],
        kv_type_v=load.kv_types[1],
        flash_attention=where.flash_attention,
        device="auto" if n_gpus else "cpu",
        n_parallel=load.n_parallel,
        n_outputs=most_outputs(load.scored, load.n_parallel, batch, batch),
        tensor_overrides=tuple(_override(text) for text in where.override_tensor),
        n_devices=max(1, n_gpus),
        rpc=endpoints,
    )
    devices, _ = choose_devices(settings)
    limits = BudgetLimits(_vram_of(devices, vram), where.ram, where.margin)
    return LoadRequest(path, settings, load.n_gpu_layers, not where.no_mmap), devices, limits


def _vram_of(devices: "tuple[GgmlDevice, ...]", given: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """Return the budgets given for these devices; one of 0 is for all."""
    if given is None or given == (0,) * len(given):
        return None if given is None else (0,) * len(devices)
    if not devices:
        warn("there is no GPU here that llama-cpp-python can use, so --vram is of no use: loaded on the CPU")
        return None
    if len(given) != len(devices):
        names = ", ".join(device.name for device in devices)
        raise InputError(f"--vram has {len(given)} sizes for {len(devices)} devices ({names}); give one for each")
    return given


def _override(text: str) -> "TensorOverride":
    from toolkit.llama.load_settings import TensorOverride

    pattern, equals, buffer_type = text.rpartition("=")
    if not equals or not pattern or not buffer_type:
        raise InputError(f"{text!r} is no override; write it as PATTERN=BUFFER, for example 'ffn_.*_exps=CPU'")
    return TensorOverride(pattern, buffer_type)


def tell_of_load(one: Opened) -> None:
    """Say on stderr what was predicted and what is allocated on every device."""
    from toolkit.planning.load_plan import predicted_and_allocated
    from toolkit.units import format_size

    if one.allocated is None:
        return
    for device in predicted_and_allocated(one.plan, one.allocated):
        verdict = as_predicted(device.predicted_bytes, device.allocated_bytes)
        mapped = f"; {format_size(device.mapped_bytes)} of the file mapped" if device.mapped_bytes else ""
        note(f"{device.name}: {format_size(device.allocated_bytes)} allocated, {verdict}{mapped}")


def as_predicted(predicted_bytes: int, allocated_bytes: int) -> str:
    """Return how far an allocation is from its prediction, in words."""
    difference = allocated_bytes - predicted_bytes
    return "as predicted to the byte" if not difference else f"{difference:+,} bytes from the prediction"


def devices_document(one: Opened) -> list[dict[str, Any]]:
    """Return the part of a document that says what every device holds; empty where llama.cpp does not tell."""
    from dataclasses import asdict

    from toolkit.planning.load_plan import predicted_and_allocated

    return [asdict(device) for device in predicted_and_allocated(one.plan, one.allocated)] if one.allocated else []
