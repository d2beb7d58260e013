"""What a verb may take of the devices, which RPC servers answer, and who answers for memory."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from toolkit.errors import EnvironmentFaultError, InputError
from toolkit.llama.footprint import Footprint
from toolkit.llama.load_settings import LoadSettings
from toolkit.llama.offload_build import offload_build, reinstall_line
from toolkit.llama.opening import files_opened_by
from toolkit.machine.disk_cache import cache_folder
from toolkit.machine.gpus import Gpu, list_gpus
from toolkit.machine.rpc_endpoints import check_reachable, parse_endpoint
from toolkit.memory.cache import CachedProbe, MemoryCache
from toolkit.memory.estimate import EstimatingProbe
from toolkit.memory.probe import MemoryProbe
from toolkit.memory.skeleton import Skeleton
from toolkit.planning.choice import PlannedChoice
from toolkit.planning.request import MemorySource
from toolkit.reporter import Reporter
from toolkit.units import format_size, parse_size

Size = int | str
"""bytes, or text such as `8GiB`"""
PathName = Path | str


@dataclass(frozen=True, kw_only=True)
class DeviceFields:
    """The fields of every request that plans for devices."""

    vram: Size | Sequence[Size] | None = None
    """budget of each GPU, then of each RPC server; 0 is the CPU alone, None what is free"""
    ram: Size | None = None
    """budget of RAM; None is what is available"""
    margin: Size | None = None
    """memory to leave free on each GPU; None is the default or what was measured"""
    rpc: Sequence[str] = ()
    """llama.cpp RPC servers, HOST:PORT"""
    rpc_required: bool = False
    """stop if a server does not answer, instead of going on without it"""
    rpc_insecure: bool = False
    """accept servers outside private networks"""

    @property
    def vram_bytes(self) -> tuple[int, ...] | None:
        """Return the budgets of GPUs and servers in bytes, None where none was given.

        Raises InputError for a size that cannot be read.
        """
        if self.vram is None:
            return None
        if isinstance(self.vram, str):
            return tuple(map(parse_size, self.vram.split(",")))
        return tuple(map(size_bytes, [self.vram] if isinstance(self.vram, int) else self.vram))

    @property
    def ram_bytes(self) -> int | None:
        """Return the budget of RAM in bytes."""
        return None if self.ram is None else size_bytes(self.ram)

    @property
    def margin_bytes(self) -> int | None:
        """Return what is left free on each GPU, in bytes."""
        return None if self.margin is None else size_bytes(self.margin)


def size_bytes(size: Size) -> int:
    """Return a size in bytes.

    Raises InputError if it cannot be read.
    """
    if isinstance(size, int) and size < 0:
        raise InputError(f"a size of {size} bytes is less than nothing")
    return size if isinstance(size, int) else parse_size(size)


def reachable_servers(
    fields: DeviceFields, reporter: Reporter, otherwise: str, in_use: tuple[str, ...] = ()
) -> tuple[tuple[int, ...] | None, tuple[str, ...]]:
    """Return the budgets and the RPC servers without those that are down; budgets of servers follow those of GPUs.

    Servers that are `in_use` by this process are not asked: they have no time for a second connection.

    Raises InputError for an address that is not one or is not trusted, EnvironmentFaultError if a required server is down.
    """
    vram = fields.vram_bytes
    if not fields.rpc:
        return vram, ()
    endpoints = [parse_endpoint(text, insecure=fields.rpc_insecure) for text in fields.rpc]
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
            if fields.rpc_required:
                raise
            reporter.warn(f"{error}; {otherwise}")
            down.add(n_gpus + index)
        else:
            up.append(endpoint.address)
    left = None if vram is None else tuple(size for index, size in enumerate(vram) if index not in down)
    return left, tuple(up)


def warn_of_unused_gpu(reporter: Reporter, gpus: tuple[Gpu, ...] | None = None) -> None:
    """Warn where a GPU is there and llama-cpp-python was built without the means to use it; None lists the GPUs."""
    gpus, build = list_gpus().gpus if gpus is None else gpus, offload_build()
    if gpus and build.installed and not build.offloads:
        reporter.warn(
            f"llama-cpp-python was built without offload, so {gpus[0].name} stays idle and rates are the CPU's; reinstall it: "
            f"{reinstall_line()}"
        )


def warn_of_idle_gpu(choice: PlannedChoice, reporter: Reporter) -> None:
    """Warn where not one layer fits the GPU, and say what would help."""
    if choice.first_layer_lacks_bytes:
        reporter.warn(
            f"nothing of {choice.file.profile} fits on the GPU, so the CPU has to do it: the first layer lacks "
            f"{format_size(choice.first_layer_lacks_bytes)}; more --vram, a shorter --ctx or a smaller --ubatch would help"
        )


@contextmanager
def open_memory_source(
    reporter: Reporter, *, no_cache: bool = False, in_child: bool = True, probe: MemoryProbe | None = None
) -> Iterator[MemorySource]:
    """Give the memory source: llama.cpp, in a child process if it may be, or a formula where it cannot be asked.

    The child is that of `probe`, or one that ends with the context.
    """
    with MemoryProbe() if probe is None else nullcontext(probe) as child, files_opened_by(child.opens):
        cache = MemoryCache(None if no_cache else cache_folder(), from_log=child.from_log)
        ask = CachedProbe(child, cache).ask if in_child else _own_process()
        source = EstimatingProbe(ask if offload_build().installed else None)
        yield source
        if source.reason:
            reporter.warn(f"memory is estimated by formula, not asked of llama.cpp: {source.reason}")


def _own_process() -> Callable[[Skeleton, LoadSettings], Footprint]:
    # Imported here, because it loads llama.cpp's bindings, and a plan mostly does without them.
    from toolkit.memory.loaded_model import OwnProcess

    return OwnProcess().ask
