"""How a GGUF file is loaded here and now: the split that fits what is free, and what it took against what was predicted."""

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from toolkit.errors import DoesNotFitError
from toolkit.llama.footprint import DeviceBytes, Footprint
from toolkit.llama.ggml_devices import GgmlDevice
from toolkit.llama.gpus import as_gpu, reported
from toolkit.llama.load_settings import LoadSettings
from toolkit.llama.model_limits import refuse_without_next_token, why_no_next_token
from toolkit.machine.gpus import gpu_bandwidths
from toolkit.machine.host import read_ram
from toolkit.machine.load import ram_bandwidth
from toolkit.memory.placement import Placement
from toolkit.memory.plannable import model_from_gguf
from toolkit.planning.budgets import Budgets
from toolkit.planning.choice import PlannedChoice
from toolkit.planning.margin import machine_margin
from toolkit.planning.planner import Planner
from toolkit.planning.request import MemorySource, PlanningRequest
from toolkit.planning.token_speed import Bandwidths
from toolkit.units import format_size

Asking = Callable[[], AbstractContextManager[MemorySource]]
_ALL_OF_IT = sys.maxsize


@dataclass(frozen=True)
class BudgetLimits:
    """What the user lets a load take, where anything is said: of each GPU and then each server, and of RAM."""

    vram_bytes: tuple[int, ...] | None = None
    ram_bytes: int | None = None
    margin_bytes: int | None = None

    def beside(self, loaded: Footprint, devices: Sequence[GgmlDevice]) -> "BudgetLimits":
        """Return what is left of them for a second model on the same devices."""
        taken = [loaded.bytes_on(device.name) for device in devices]
        vram, ram = self.vram_bytes, self.ram_bytes
        return replace(
            self,
            vram_bytes=None
            if vram is None
            else tuple(max(0, size - less) for size, less in zip(vram, taken, strict=True)),
            ram_bytes=None if ram is None else max(0, ram - loaded.host_bytes),
        )


@dataclass(frozen=True)
class LoadRequest:
    """A file, and everything about its loading that is not planned."""

    path: Path
    settings: LoadSettings
    """overrides given by hand among them"""
    n_gpu_layers: int | None = None
    """given by hand; None lets it be planned, or takes all where overrides are given"""
    use_mmap: bool = True

    @property
    def by_hand(self) -> bool:
        """Tell whether the split is given, not planned."""
        return self.n_gpu_layers is not None or bool(self.settings.tensor_overrides)


@dataclass(frozen=True)
class LoadPlan:
    """A split that fits, and what it will take."""

    request: LoadRequest
    choice: PlannedChoice
    budgets: Budgets

    @property
    def settings(self) -> LoadSettings:
        """Return the settings with the split in them."""
        return self.choice.settings

    @property
    def needed_ram_bytes(self) -> int:
        """Return the bytes of RAM that cannot be dropped, a GPU's among them if its memory is the host's."""
        footprint = self.choice.footprint
        shared = footprint.gpu_bytes if self.budgets.one_pool else 0
        return _needed_ram(footprint, use_mmap=self.request.use_mmap) + shared

    def fits(self, budgets: Budgets) -> bool:
        """Tell whether it would still fit if this were free."""
        return budgets.holds(self.choice.footprint) and self.needed_ram_bytes <= budgets.ram_bytes


@dataclass(frozen=True)
class LoadedBytes:
    """What one device was predicted to hold, and what it holds, in all and by kind; mapped parts of the file are apart."""

    name: str
    predicted_bytes: int
    allocated_bytes: int
    mapped_bytes: int
    weights_bytes: int
    kv_cache_bytes: int
    compute_bytes: int
    outputs_bytes: int
    """of the compute bytes, those that hold logits"""


def read_budgets(devices: Sequence[GgmlDevice], limits: BudgetLimits) -> Budgets:
    """Return what may be taken now: what is free on each device and in RAM, and no more than the user said."""
    ram_now = read_ram()
    gpus = [as_gpu(reported(device), ram_now) for device in devices]
    free = [gpu.free_bytes for gpu in gpus]
    given = limits.vram_bytes if limits.vram_bytes is not None else free
    # A backend that does not tell what is free gives 0; then the user's word counts alone.
    vram = tuple(min(size, known) if known else size for size, known in zip(given, free, strict=False))
    margin = limits.margin_bytes if limits.margin_bytes is not None else machine_margin(vram)
    available = ram_now.available_bytes
    ram = available if limits.ram_bytes is None else min(limits.ram_bytes, available)
    return Budgets(vram, ram, margin, one_pool=any(gpu.shares_ram for gpu in gpus))


def plan_load(request: LoadRequest, budgets: Budgets, memory_source: MemorySource) -> LoadPlan:
    """Return how to load a file: as many layers on the devices as fit, or as many as were given by hand.

    Raises DoesNotFitError if that is too much, GgufError if the file is damaged or refused,
    InputError if it predicts no next token or has learnt too few positions.
    """
    model = model_from_gguf(request.path)
    names = (tensor.name for tensor in model.make("").tensors)
    refuse_without_next_token(request.path.name, why_no_next_token(model.metadata, names))
    settings = request.settings
    if not any(budgets.vram_bytes):
        settings = replace(settings, device="cpu", rpc=())
    kv_types = settings.kv_types
    bandwidths = Bandwidths(gpu_bandwidths(), ram_bandwidth())
    # RAM is judged below: what is mapped need not fit.
    asked = PlanningRequest(replace(budgets, ram_bytes=_ALL_OF_IT), settings, bandwidths, (kv_types,), explicit=True)
    with Planner(model, asked, memory_source) as planner:
        if request.by_hand:
            n_layer = model.make("").model_tensors.n_layer
            layers = n_layer + 1 if request.n_gpu_layers is None else min(request.n_gpu_layers, n_layer + 1)
            choice = planner.placed(model.profiles[0], kv_types, Placement(layers))
        else:
            choice = planner.choice(model.profiles[0], kv_types)
    plan = LoadPlan(request, choice, budgets)
    if not choice.fits or plan.needed_ram_bytes > budgets.ram_bytes:
        raise DoesNotFitError(_what_is_missing(plan))
    return plan


def plan_just_before_loading(
    request: LoadRequest, read: Callable[[], Budgets], asking: Asking, tell: Callable[[str], None]
) -> LoadPlan:
    """Plan for what is free, read it again, and plan once more if the first plan no longer fits.

    Whoever is asked for memory takes some of a GPU for itself, so it is gone when memory is read again.

    Raises what `plan_load` does.
    """
    before = read()
    with asking() as memory_source:
        plan = plan_load(request, before, memory_source)
    now = read()
    if plan.fits(now):
        return plan
    tell(f"free memory changed while {request.path.name} was planned ({_change(before, now)}): planned again")
    with asking() as memory_source:
        return plan_load(request, now, memory_source)


def predicted_and_allocated(plan: LoadPlan, allocated: Footprint) -> list[LoadedBytes]:
    """Return both for every device, GPUs first; what a mapped file holds is in neither."""
    predicted = {device.name: _without_mapped(device, plan) for device in plan.choice.footprint.devices}
    taken = {device.name: device for device in allocated.devices}
    names = sorted(predicted.keys() | taken.keys(), key=lambda name: (name == "CPU", name))
    nothing = DeviceBytes("", False, 0, 0, 0)
    return [_loaded_bytes(name, predicted.get(name, 0), taken.get(name, nothing)) for name in names]


def _without_mapped(device: DeviceBytes, plan: LoadPlan) -> int:
    return device.total_bytes - (device.mappable_bytes if plan.request.use_mmap else 0)


def _loaded_bytes(name: str, predicted_bytes: int, taken: DeviceBytes) -> LoadedBytes:
    mapped = taken.mapped_bytes
    parts = (taken.weights_bytes - mapped, taken.kv_cache_bytes, taken.compute_bytes)
    return LoadedBytes(name, predicted_bytes, sum(parts), mapped, *parts, taken.outputs_bytes)


def _needed_ram(footprint: Footprint, *, use_mmap: bool) -> int:
    mapped = sum(device.mappable_bytes for device in footprint.devices) if use_mmap else 0
    return footprint.host_bytes - mapped


def _what_is_missing(plan: LoadPlan) -> str:
    choice, budgets, path = plan.choice, plan.budgets, plan.request.path
    if choice.fits:
        return (
            f"{path} does not fit: it needs {format_size(plan.needed_ram_bytes)} of RAM beside what can be mapped, and "
            f"{format_size(budgets.ram_bytes)} are available; use a shorter --ctx, a smaller --kv, or more layers on a GPU"
        )
    # Only a split by hand can be too much for the devices: a planned one leaves to the CPU what they have no room for.
    overrides = " and the given overrides" if plan.request.settings.tensor_overrides else ""
    return (
        f"{path} does not fit: with {choice.placement.n_gpu_layers} of {choice.n_layers} layers on the GPU{overrides} it needs "
        f"{format_size(choice.footprint.gpu_bytes)}, {format_size(choice.missing_bytes)} more than the "
        f"{format_size(sum(budgets.room))} that may be taken; give a lower -ngl or other overrides, a shorter --ctx, a smaller --kv, "
        "or more --vram"
    )


def _change(before: Budgets, now: Budgets) -> str:
    pairs = [
        (f"device {index}", *sizes) for index, sizes in enumerate(zip(before.vram_bytes, now.vram_bytes, strict=True))
    ]
    pairs.append(("RAM", before.ram_bytes, now.ram_bytes))
    return ", ".join(
        f"{name}: {format_size(first)} -> {format_size(second)}" for name, first, second in pairs if second < first
    )
