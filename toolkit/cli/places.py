"""Where a model may lie: the options of planning and of loading, the servers that answer, and whom to ask for memory."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import click

from toolkit.cli.common import SIZE, Function, warn
from toolkit.cli.options import Option, add_options
from toolkit.errors import EnvironmentFaultError, InputError

if TYPE_CHECKING:
    from toolkit.llama.load_settings import FlashAttention
    from toolkit.machine.gpus import Gpu
    from toolkit.memory.loaded_model import OwnProcess
    from toolkit.memory.probe import MemoryProbe
    from toolkit.planning.choice import PlannedChoice
    from toolkit.planning.request import MemorySource


BUDGET_OPTIONS: tuple[Option[Any], ...] = (
    click.option(
        "--vram", metavar="SIZE[,SIZE...]", help="Budget of each GPU; 0: the CPU alone. Default: what is free."
    ),
    click.option("--ram", type=SIZE, help="Budget of RAM; default: what is available now."),
    click.option(
        "--margin",
        type=SIZE,
        help="Memory to leave free on each GPU; default: 6 % of it, at most 512 MiB, or as doctor --calibrate measured.",
    ),
    click.option(
        "--rpc", multiple=True, metavar="HOST:PORT", help="llama.cpp RPC server; its --vram follows the GPUs'."
    ),
    click.option(
        "--rpc-required", is_flag=True, help="Stop if a server does not answer, instead of going on without it."
    ),
    click.option("--rpc-insecure", is_flag=True, help="Accept servers outside private networks."),
)


def budget_options(function: Function) -> Function:
    """Add the options that say what may be taken, and of which servers."""
    return add_options(function, BUDGET_OPTIONS)


@dataclass(frozen=True)
class Places:
    """What those options read, and those of loading where a command has them."""

    vram: str | None = None
    ram: int | None = None
    margin: int | None = None
    rpc: tuple[str, ...] = ()
    rpc_required: bool = False
    rpc_insecure: bool = False
    flash_attention: "FlashAttention" = "auto"
    override_tensor: tuple[str, ...] = ()
    no_mmap: bool = False


def places(options: dict[str, Any]) -> Places:
    """Return the places that a command's options give."""
    return Places(**{field.name: options[field.name] for field in fields(Places) if field.name in options})


def sizes(text: str | None) -> tuple[int, ...] | None:
    """Return the sizes of `--vram`, None where it is not given."""
    from toolkit.units import parse_size

    return None if text is None else tuple(parse_size(part) for part in text.split(","))


def servers_that_answer(
    where: Places, vram: tuple[int, ...] | None, otherwise: str, in_use: tuple[str, ...] = ()
) -> tuple[tuple[int, ...] | None, tuple[str, ...]]:
    """Return the budgets and the RPC servers without those that are down; budgets of servers follow those of GPUs.

    Servers that are `in_use` by this process are not asked: they have no time for a second connection.

    Raises InputError for an address that is none or not trusted, EnvironmentFaultError if a required server is down.
    """
    if not where.rpc:
        return vram, ()
    from toolkit.machine.rpc_endpoints import check_reachable, parse_endpoint

    endpoints = [parse_endpoint(text, insecure=where.rpc_insecure) for text in where.rpc]
    if vram is not None and any(vram) and len(vram) < len(endpoints):
        raise InputError(
            f"--vram has {len(vram)} sizes for {len(endpoints)} RPC servers; give one for each GPU, then for each server"
        )
    n_gpus = max(0, len(vram or ()) - len(endpoints))
    down, up = set(), []
    for index, endpoint in enumerate(endpoints):
        try:
            if endpoint.address not in in_use:
                check_reachable(endpoint)
        except EnvironmentFaultError as error:
            if where.rpc_required:
                raise
            warn(f"{error}; {otherwise}")
            down.add(n_gpus + index)
        else:
            up.append(endpoint.address)
    kept = None if vram is None else tuple(size for index, size in enumerate(vram) if index not in down)
    return kept, tuple(up)


def warn_of_unused_gpu(gpus: "tuple[Gpu, ...] | None" = None) -> None:
    """Say so where a GPU is there and llama-cpp-python was built without the means to use it; None reads which there are."""
    from toolkit.llama.offload_build import offload_build, reinstall_line
    from toolkit.machine.gpus import list_gpus

    gpus, build = list_gpus().gpus if gpus is None else gpus, offload_build()
    if gpus and build.installed and not build.offloads:
        warn(
            f"llama-cpp-python was built without offload, so {gpus[0].name} stays idle and rates are the CPU's; reinstall it: "
            f"{reinstall_line()}"
        )


def warn_of_idle_gpu(choice: "PlannedChoice") -> None:
    """Say so where not one layer fits the GPU, and what would help."""
    from toolkit.units import format_size

    if choice.first_layer_lacks_bytes:
        warn(
            f"nothing of {choice.file.profile} fits on the GPU, so the CPU has to do it: the first layer lacks "
            f"{format_size(choice.first_layer_lacks_bytes)}; more --vram, a shorter --ctx or a smaller --ubatch would help"
        )


@contextmanager
def memory_memory_source(
    *, no_cache: bool = False, in_child: bool = True, probe: "MemoryProbe | None" = None
) -> "Iterator[MemorySource]":
    """Give whom to ask for memory: llama.cpp, in a child process if it may be, or a formula where it cannot be asked.

    The child is that of `probe`, or one that ends with the context.
    """
    from toolkit.llama.offload_build import offload_build
    from toolkit.llama.opening import asked_of
    from toolkit.machine.disk_cache import cache_folder
    from toolkit.memory.cache import CachedProbe, MemoryCache
    from toolkit.memory.estimate import EstimatingProbe
    from toolkit.memory.probe import MemoryProbe

    with MemoryProbe() if probe is None else nullcontext(probe) as asked, asked_of(asked.opens):
        kept = MemoryCache(None if no_cache else cache_folder(), from_log=asked.from_log)
        cached = CachedProbe(asked, kept)
        ask = cached.ask if in_child else _own_process().ask
        memory_source = EstimatingProbe(ask if offload_build().installed else None)
        yield memory_source
        if memory_source.why:
            warn(f"memory is estimated by formula, not asked of llama.cpp: {memory_source.why}")


def _own_process() -> "OwnProcess":
    # Imported here, because it loads llama.cpp's bindings and a plan mostly does without.
    from toolkit.memory.loaded_model import OwnProcess

    return OwnProcess()
