"""How the verbs load a GGUF file: planned for what is free just before, and compared with what it took."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from toolkit.errors import InputError
from toolkit.llama.batch import most_outputs
from toolkit.llama.devices import choose_devices
from toolkit.llama.footprint import Footprint
from toolkit.llama.ggml_devices import GgmlDevice, offload_devices
from toolkit.llama.load_settings import FlashAttention, KvTypes, LoadSettings, TensorOverride
from toolkit.llama.run_settings import run_settings
from toolkit.llama.runtime import LlamaRuntime
from toolkit.planning.load_plan import (
    BudgetLimits,
    LoadedBytes,
    LoadPlan,
    LoadRequest,
    plan_just_before_loading,
    predicted_and_allocated,
    read_budgets,
)
from toolkit.reporter import Reporter
from toolkit.units import format_size
from toolkit.verbs.devices import DeviceFields, open_memory_source, reachable_servers, warn_of_idle_gpu
from toolkit.verbs.values import NotNegative, Positive

_BATCH = 512


@dataclass(frozen=True, kw_only=True)
class PlacementFields(DeviceFields):
    """The fields of every request that loads a model, however many ways of loading it compares."""

    flash_attention: FlashAttention = "auto"
    override_tensor: Sequence[str] = ()
    """PATTERN=BUFFER pairs: where tensors lie"""
    use_mmap: bool = True
    """map the file instead of reading it into memory"""


@dataclass(frozen=True, kw_only=True)
class LoadFields(PlacementFields):
    """The fields of every request that loads a model in one way."""

    n_gpu_layers: NotNegative | None = None
    """layers on the GPU; None is what fits"""
    kv: str = "f16"
    """type of the KV cache, TYPE or TYPE/TYPE for keys and values"""
    threads: Positive | None = None
    """CPU threads; None is the number of physical cores"""


@dataclass(frozen=True, kw_only=True)
class HowToLoad:
    """How one file is loaded."""

    fields: PlacementFields
    n_gpu_layers: int | None = None
    kv: str = "f16"
    threads: int | None = None
    n_parallel: int = 1
    """sequences that are evaluated side by side"""
    scored: range = range(-1, 0)
    """positions of a sequence whose logits are wanted"""
    on_tensor: Any = None
    """called for every node of a graph; see `RunSettings`"""


@dataclass(frozen=True)
class LoadedFile:
    """A GGUF file in llama.cpp: how its load was planned, and what it took; None where llama.cpp does not say."""

    runtime: LlamaRuntime
    plan: LoadPlan
    allocated: Footprint | None

    @property
    def devices(self) -> tuple[LoadedBytes, ...]:
        """Return what each device was predicted to hold and holds; nothing where llama.cpp does not say."""
        return () if self.allocated is None else tuple(predicted_and_allocated(self.plan, self.allocated))


def how_to_load(fields: LoadFields, **changes: Any) -> HowToLoad:
    """Return how the file of a request is loaded."""
    return HowToLoad(fields=fields, n_gpu_layers=fields.n_gpu_layers, kv=fields.kv, threads=fields.threads, **changes)


@contextmanager
def load_file(
    path: Path,
    how: HowToLoad,
    n_ctx_seq: int,
    reporter: Reporter,
    beside: Sequence[LoadedFile] = (),
) -> Iterator[LoadedFile]:
    """Plan for what is free, load a file for sequences of n_ctx_seq tokens, and report what was taken.

    What is loaded `beside` has taken its parts of the budgets.

    Raises DoesNotFitError instead of loading what does not fit.
    """
    plan = _plan(path, how, n_ctx_seq, reporter, beside)
    warn_of_idle_gpu(plan.choice, reporter)
    _warn_of_paging(plan, reporter)
    settings = run_settings(plan.settings, how.threads, use_mmap=plan.request.use_mmap)
    with LlamaRuntime(path, replace(settings, on_tensor=how.on_tensor)) as runtime:
        if n_ctx_seq > runtime.n_ctx_train:
            reporter.warn(
                f"{path.name} was trained for {runtime.n_ctx_train:,} tokens, fewer than the {n_ctx_seq:,} measured"
            )
        loaded = LoadedFile(runtime, plan, runtime.footprint_if_known())
        for line in allocation_lines(loaded.devices):
            reporter.detail(line)
        yield loaded


def allocation_lines(devices: Sequence[LoadedBytes]) -> list[str]:
    """Return a line a device: what was allocated, and how far that is from the prediction."""
    lines = []
    for device in devices:
        mapped = f"; {format_size(device.mapped_bytes)} of the file mapped" if device.mapped_bytes else ""
        exactness = as_predicted(device.predicted_bytes, device.allocated_bytes)
        lines.append(f"{device.name}: {format_size(device.allocated_bytes)} allocated, {exactness}{mapped}")
    return lines


def as_predicted(predicted_bytes: int, allocated_bytes: int) -> str:
    """Return how far an allocation is from its prediction."""
    difference = allocated_bytes - predicted_bytes
    return "as predicted to the byte" if not difference else f"{difference:+,} bytes from the prediction"


def _warn_of_paging(plan: LoadPlan, reporter: Reporter) -> None:
    needed, available = plan.choice.footprint.host_bytes, plan.budgets.ram_bytes
    if needed > available:
        reporter.warn(
            f"{plan.request.path.name} needs {format_size(needed)} of RAM with its mapped weights, and {format_size(available)} are "
            "available: they will be read from disk again and again"
        )


def _plan(path: Path, how: HowToLoad, n_ctx_seq: int, reporter: Reporter, beside: Sequence[LoadedFile]) -> LoadPlan:
    in_use = tuple(server for loaded in beside for server in loaded.plan.settings.rpc)
    request, devices, limits = _request(path, how, n_ctx_seq, reporter, in_use)
    for loaded in beside:
        limits = limits.beside(loaded.allocated or loaded.plan.choice.footprint, devices)
    asking = partial(open_memory_source, reporter, in_child=not request.settings.rpc)
    return plan_just_before_loading(request, lambda: read_budgets(devices, limits), asking, reporter.note)


def _request(
    path: Path, how: HowToLoad, n_ctx_seq: int, reporter: Reporter, in_use: tuple[str, ...]
) -> tuple[LoadRequest, tuple[GgmlDevice, ...], BudgetLimits]:
    fields, n_gpus = how.fields, len(offload_devices())
    vram, endpoints = reachable_servers(fields, reporter, "loaded without it", in_use)
    n_ctx = n_ctx_seq * how.n_parallel
    batch = min(_BATCH, n_ctx)
    settings = LoadSettings(
        n_ctx=n_ctx,
        n_batch=batch,
        n_ubatch=batch,
        kv_types=KvTypes.parse(how.kv),
        flash_attention=fields.flash_attention,
        device="auto" if n_gpus else "cpu",
        n_parallel=how.n_parallel,
        n_outputs=most_outputs(how.scored, how.n_parallel, batch, batch),
        tensor_overrides=tuple(map(tensor_override, fields.override_tensor)),
        n_devices=max(1, n_gpus),
        rpc=endpoints,
    )
    devices, _ = choose_devices(settings)
    limits = BudgetLimits(_vram_of(devices, vram, reporter), fields.ram_bytes, fields.margin_bytes)
    return LoadRequest(path, settings, how.n_gpu_layers, fields.use_mmap), devices, limits


def _vram_of(
    devices: tuple[GgmlDevice, ...], given: tuple[int, ...] | None, reporter: Reporter
) -> tuple[int, ...] | None:
    """Return the budgets given for these devices; one of 0 is for all."""
    if given is None or given == (0,) * len(given):
        return None if given is None else (0,) * len(devices)
    if not devices:
        reporter.warn("there is no GPU here that llama-cpp-python can use, so --vram has no effect: loaded on the CPU")
        return None
    if len(given) != len(devices):
        names = ", ".join(device.name for device in devices)
        raise InputError(f"--vram has {len(given)} sizes for {len(devices)} devices ({names}); give one for each")
    return given


def tensor_override(text: str) -> TensorOverride:
    """Return the override that PATTERN=BUFFER writes.

    Raises InputError if it is not one.
    """
    pattern, equals, buffer_type = text.rpartition("=")
    if not equals or not pattern or not buffer_type:
        raise InputError(f"{text!r} is not an override; write it as PATTERN=BUFFER, for example 'ffn_.*_exps=CPU'")
    return TensorOverride(pattern, buffer_type)
