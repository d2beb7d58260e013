"""What the planning verbs share: how their fields become a request for the planner, and what is free where nothing is given."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from toolkit.errors import InputError
from toolkit.llama.ggml_devices import offload_devices
from toolkit.llama.gpus import find_gpus
from toolkit.llama.load_settings import AskedDevice, FlashAttention, KvTypes, LoadSettings
from toolkit.machine.gpus import Gpu, gpu_bandwidths
from toolkit.machine.host import read_ram
from toolkit.machine.load import ram_bandwidth
from toolkit.memory.probe import MemoryProbe
from toolkit.planning.budgets import Budgets
from toolkit.planning.margin import default_margin, known_overheads, measured_overhead
from toolkit.planning.ranking import Prefer
from toolkit.planning.request import PlanningRequest
from toolkit.planning.token_speed import Bandwidths
from toolkit.reporter import Reporter
from toolkit.units import format_size, parse_count
from toolkit.verbs.devices import DeviceFields, reachable_servers, warn_of_unused_gpu

Count = int | str
"""a number, or text such as `16k`"""
BOTH_KV_TYPES = ("f16", "q8_0")
DEFAULT_UBATCH = 512


@dataclass(frozen=True, kw_only=True)
class PlanningFields(DeviceFields):
    """The fields of every request that plans a file for devices."""

    n_ctx: Count = 4096
    """context length of all sequences together"""
    kv: Sequence[str] = ()
    """types of the KV cache, best first; none stands for f16 and q8_0"""
    flash_attention: FlashAttention = "auto"
    prefer: Literal["balance", "speed", "quality"] = "balance"
    """where nothing of 4 bits or more fits whole: balance splits Q4_K_M, speed takes a smaller file, quality splits a larger one"""

    @property
    def context(self) -> int:
        """Return the context length of all sequences together, in tokens.

        Raises InputError if it cannot be read.
        """
        return self.n_ctx if isinstance(self.n_ctx, int) else parse_count(self.n_ctx)

    def load_settings(self, device: AskedDevice, n_devices: int, rpc: tuple[str, ...]) -> LoadSettings:
        """Return how a file would be loaded, as far as that is not planned."""
        return LoadSettings(
            n_ctx=self.context,
            n_batch=DEFAULT_UBATCH,
            n_ubatch=DEFAULT_UBATCH,
            flash_attention=self.flash_attention,
            device=device,
            n_devices=n_devices,
            rpc=rpc,
        )

    def bandwidths(self, *, on_cpu: bool) -> Bandwidths:
        """Return what rates are predicted from: what drivers report and what was measured of RAM."""
        gpus = () if on_cpu else gpu_bandwidths()
        return Bandwidths(gpus, ram_bandwidth(), "measured" if gpus else "assumed")


def planning_request(
    fields: PlanningFields, reporter: Reporter, *, explicit: bool, runs: bool = False, device: AskedDevice = "auto"
) -> PlanningRequest:
    """Return what has to fit where; `explicit` if profiles were named, `runs` if what is planned is loaded here afterwards.

    Raises InputError for values that cannot be meant, EnvironmentFaultError if a required server is down.
    """
    kv_types = tuple(KvTypes.parse(text) for text in fields.kv or BOTH_KV_TYPES)
    gpus = find_gpus().gpus
    warn_of_unused_gpu(reporter, gpus)
    vram, endpoints, n_gpus = _budgets(fields, gpus, reporter)
    if runs and endpoints and n_gpus:
        _check_that_gpus_are_here(n_gpus)
    ram = fields.ram_bytes
    budgets = Budgets(
        vram,
        read_ram().available_bytes if ram is None else ram,
        _margin(vram, fields.margin_bytes, gpus, reporter),
        any(gpu.shares_ram for gpu in gpus),
    )
    return PlanningRequest(
        budgets,
        fields.load_settings("cpu" if endpoints and not n_gpus else device, max(1, n_gpus), endpoints),
        fields.bandwidths(on_cpu=not any(vram)),
        kv_types if fields.kv or fields.flash_attention != "off" else kv_types[:1],
        Prefer(fields.prefer),
        explicit,
        measured_overhead(gpus, known_overheads()),
    )


def warn_of_long_context(n_ctx: int, n_ctx_train: int | None, reporter: Reporter) -> None:
    """Warn where a context is beyond what a model was trained for."""
    if n_ctx_train and n_ctx > n_ctx_train:
        reporter.warn(f"--ctx {n_ctx:,} is beyond the {n_ctx_train:,} tokens that the model was trained for")


def _margin(vram: tuple[int, ...], given: int | None, gpus: tuple[Gpu, ...], reporter: Reporter) -> int:
    """Return what stays free on each GPU, with a warning where it is little for Windows' own driver model."""
    advised = default_margin(vram, gpus, known_overheads())
    desktop = next((gpu for gpu in gpus if gpu.wddm), None)
    if desktop is not None and given is not None and given < advised:
        reporter.warn(
            f"--margin {format_size(given)} is little on {desktop.name}: Windows moves memory to RAM instead of failing, so "
            f"leave {format_size(advised)} free"
        )
    return advised if given is None else given


def _budgets(
    fields: DeviceFields, gpus: tuple[Gpu, ...], reporter: Reporter
) -> tuple[tuple[int, ...], tuple[str, ...], int]:
    """Return budgets given by hand or what is free now, the servers that answer, and how many of the former are GPUs'."""
    given, endpoints = reachable_servers(fields, reporter, "planned without it")
    remote = _free_on(endpoints) if endpoints else ()
    if given is None:
        free = _free_now(gpus, endpoints, reporter)
        return (*free, *remote), endpoints, len(free)
    if len(given) < len(remote):
        raise InputError(
            f"--vram has {len(given)} sizes for {len(remote)} devices of RPC servers; give one for each GPU, then for each of "
            "those"
        )
    for gpu, size in zip(gpus, given, strict=False):
        if gpu.free_bytes < size:
            reporter.warn(
                f"{gpu.name} has {format_size(gpu.free_bytes)} free now, less than --vram {format_size(size)}"
            )
    return given, endpoints, len(given) - len(remote)


def _check_that_gpus_are_here(n_gpus: int) -> None:
    """Raise InputError where a GPU would have to be simulated: beside servers, which are real, it cannot."""
    here = len(offload_devices())
    if n_gpus > here:
        raise InputError(
            f"--vram has sizes for {n_gpus} GPUs beside the servers, and llama-cpp-python sees {here} here; give sizes for those and "
            "for the servers only"
        )


def _free_now(gpus: tuple[Gpu, ...], endpoints: tuple[str, ...], reporter: Reporter) -> tuple[int, ...]:
    for gpu in gpus:
        if gpu.holders:
            reporter.note(_who_holds(gpu))
    if not gpus and not endpoints:
        reporter.warn("no GPU was found and no --vram was given: planned for the CPU alone")
        return (0,)
    return tuple(gpu.free_bytes for gpu in gpus)


def _free_on(endpoints: tuple[str, ...]) -> tuple[int, ...]:
    """Return what every device of the servers has free; a server has one for each GPU of its machine."""
    with MemoryProbe() as probe:
        return probe.free_bytes(LoadSettings(n_ctx=1, device="cpu", rpc=endpoints))


def _who_holds(gpu: Gpu) -> str:
    """Name the processes that hold memory of a GPU, because it is free again once they end."""
    held = [
        f"process {holder.pid} ({format_size(holder.used_bytes) if holder.used_bytes else '?'})"
        for holder in gpu.holders
    ]
    return f"{gpu.name}: {format_size(gpu.free_bytes)} of {format_size(gpu.total_bytes)} are free, held by {', '.join(held)}"
