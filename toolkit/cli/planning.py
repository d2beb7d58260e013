"""What the planning commands share: how their options become a request, and what is free where nothing is given."""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from toolkit.cli.common import note, warn
from toolkit.cli.places import Places, places, servers_that_answer, sizes, warn_of_unused_gpu
from toolkit.errors import InputError
from toolkit.verbs.kv_types import kv_pair

if TYPE_CHECKING:
    from toolkit.llama.load_settings import AskedDevice, LoadSettings
    from toolkit.machine.gpus import Gpu
    from toolkit.planning.request import PlanningRequest
    from toolkit.planning.token_speed import Bandwidths

BOTH_KV_TYPES = ("f16", "q8_0")


@dataclass(frozen=True)
class PlanningOptions:
    """What a planning command read; a command without one of these options has its default."""

    n_ctx: int
    places: Places
    kv: tuple[str, ...] = ()
    prefer: str = "balance"
    ubatch: int = 512
    n_parallel: int = 1
    kv_unified: bool = False
    swa_full: bool = False
    gpu_bandwidth: float | None = None
    """GB/s"""
    ram_bandwidth: float | None = None
    device: "AskedDevice" = "auto"


def planning_options(options: dict[str, Any]) -> PlanningOptions:
    """Return what a command's options say."""
    names = {field.name for field in fields(PlanningOptions)} - {"places"}
    return PlanningOptions(places=places(options), **{name: options[name] for name in names if name in options})


def plan_request(asked: PlanningOptions, *, explicit: bool, runs: bool = False) -> "PlanningRequest":
    """Return what has to fit where; `explicit` if profiles were named, `runs` if what is planned is loaded here afterwards.

    Raises InputError for values that are none, EnvironmentFaultError if a required server is down.
    """
    from toolkit.llama.gpus import find_gpus
    from toolkit.machine.host import read_ram
    from toolkit.planning.budgets import Budgets
    from toolkit.planning.margin import known_overheads, measured_overhead
    from toolkit.planning.ranking import Prefer
    from toolkit.planning.request import PlanningRequest

    kv_types = tuple(kv_pair(text) for text in asked.kv or BOTH_KV_TYPES)
    gpus = find_gpus().gpus
    warn_of_unused_gpu(gpus)
    vram, endpoints, n_gpus = _budgets(asked.places, gpus)
    if runs and endpoints and n_gpus:
        _check_that_gpus_are_here(n_gpus)
    margin, ram = asked.places.margin, asked.places.ram
    return PlanningRequest(
        Budgets(
            vram,
            read_ram().available_bytes if ram is None else ram,
            _margin(vram, margin, gpus),
            any(gpu.shares_ram for gpu in gpus),
        ),
        _settings(asked, n_gpus, endpoints),
        _bandwidths(asked, on_cpu=not any(vram)),
        kv_types if asked.kv or asked.places.flash_attention != "off" else kv_types[:1],
        Prefer(asked.prefer),
        explicit,
        measured_overhead(gpus, known_overheads()),
    )


def warn_of_long_context(n_ctx: int, trained: int | None) -> None:
    """Say so where a context is beyond what a model was trained for."""
    if trained and n_ctx > trained:
        warn(f"--ctx {n_ctx:,} is beyond the {trained:,} tokens that the model was trained for")


def _settings(asked: PlanningOptions, n_gpus: int, endpoints: tuple[str, ...]) -> "LoadSettings":
    from toolkit.llama.load_settings import LoadSettings

    return LoadSettings(
        asked.n_ctx,
        n_batch=max(512, asked.ubatch),
        n_ubatch=asked.ubatch,
        flash_attention=asked.places.flash_attention,
        device="cpu" if endpoints and not n_gpus else asked.device,
        n_parallel=asked.n_parallel,
        kv_unified=asked.kv_unified,
        swa_full=asked.swa_full,
        n_devices=max(1, n_gpus),
        rpc=endpoints,
    )


def _margin(vram: tuple[int, ...], given: int | None, gpus: "tuple[Gpu, ...]") -> int:
    """Return what stays free on each GPU, with a warning where it is little for Windows' own driver model."""
    from toolkit.planning.margin import default_margin, known_overheads
    from toolkit.units import format_size

    advised = default_margin(vram, gpus, known_overheads())
    desktop = next((gpu for gpu in gpus if gpu.wddm), None)
    if desktop is not None and given is not None and given < advised:
        warn(
            f"--margin {format_size(given)} is little on {desktop.name}: Windows moves memory to RAM instead of failing, so "
            f"leave {format_size(advised)} free"
        )
    return advised if given is None else given


def _budgets(where: Places, gpus: "tuple[Gpu, ...]") -> tuple[tuple[int, ...], tuple[str, ...], int]:
    """Return budgets given by hand or what is free now, the servers that answer, and how many of the former are GPUs'."""
    given, endpoints = servers_that_answer(where, sizes(where.vram), "planned without it")
    remote = _free_on(endpoints) if endpoints else ()
    if given is None:
        free = _free_now(gpus, endpoints)
        return (*free, *remote), endpoints, len(free)
    if len(given) < len(remote):
        raise InputError(
            f"--vram has {len(given)} sizes for {len(remote)} devices of RPC servers; give one for each GPU, then for each of "
            "those"
        )
    _warn_of_less(given, gpus)
    return given, endpoints, len(given) - len(remote)


def _check_that_gpus_are_here(n_gpus: int) -> None:
    """Raise InputError where a GPU would have to be stood in for: beside servers, which are real, it cannot."""
    from toolkit.llama.ggml_devices import offload_devices

    here = len(offload_devices())
    if n_gpus > here:
        raise InputError(
            f"--vram has sizes for {n_gpus} GPUs beside the servers, and llama-cpp-python sees {here} here; give sizes for those and "
            "for the servers only"
        )


def _free_now(gpus: "tuple[Gpu, ...]", endpoints: tuple[str, ...]) -> tuple[int, ...]:
    for gpu in gpus:
        _tell_who_holds(gpu)
    if not gpus and not endpoints:
        warn("no GPU was found and no --vram was given: planned for the CPU alone")
        return (0,)
    return tuple(gpu.free_bytes for gpu in gpus)


def _free_on(endpoints: tuple[str, ...]) -> tuple[int, ...]:
    """Return what every device of the servers has free; a server has one for each GPU of its machine."""
    from toolkit.llama.load_settings import LoadSettings
    from toolkit.memory.probe import MemoryProbe

    with MemoryProbe() as probe:
        return probe.free_bytes(LoadSettings(1, device="cpu", rpc=endpoints))


def _tell_who_holds(gpu: "Gpu") -> None:
    """Name the processes that hold memory of a GPU, because it is free again once they end."""
    from toolkit.units import format_size

    if gpu.holders:
        held = [f"process {one.pid} ({format_size(one.used_bytes) if one.used_bytes else '?'})" for one in gpu.holders]
        note(
            f"{gpu.name}: {format_size(gpu.free_bytes)} of {format_size(gpu.total_bytes)} are free, held by {', '.join(held)}"
        )


def _warn_of_less(given: tuple[int, ...], gpus: "tuple[Gpu, ...]") -> None:
    from toolkit.units import format_size

    for gpu, size in zip(gpus, given, strict=False):
        if gpu.free_bytes < size:
            warn(f"{gpu.name} has {format_size(gpu.free_bytes)} free now, less than --vram {format_size(size)}")


def _bandwidths(asked: PlanningOptions, *, on_cpu: bool) -> "Bandwidths":
    from toolkit.machine.gpus import gpu_bandwidths
    from toolkit.machine.load import ram_bandwidth
    from toolkit.planning.token_speed import GIGA, Bandwidths

    given, ram = asked.gpu_bandwidth, asked.ram_bandwidth
    gpus = () if on_cpu else (given * GIGA,) if given else gpu_bandwidths()
    origin = "given" if given else "measured" if gpus else "assumed"
    return Bandwidths(gpus, ram * GIGA if ram else ram_bandwidth(), origin)
