"""What a plan answers: a file with its settings and its split, and where everything lies then."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from toolkit.gguf.format import ModelKeys
from toolkit.llama.footprint import DeviceBytes, Footprint
from toolkit.llama.load_settings import LoadSettings
from toolkit.memory.kv_cache import layer_states
from toolkit.memory.placement import Placement, gpu_of
from toolkit.memory.plannable import PlannedFile
from toolkit.planning.budgets import Budgets
from toolkit.planning.ranking import Candidate, Prefer, rank_key
from toolkit.planning.split_search import WholeOffload


@dataclass(frozen=True)
class PlannedChoice:
    """A file with its settings and its split; where it does not fit, what the whole offload would take."""

    file: PlannedFile
    settings: LoadSettings
    placement: Placement
    footprint: Footprint
    fits: bool
    fits_whole: bool
    tokens_per_second: float
    missing_bytes: int = 0
    """by how much the budgets are exceeded"""
    first_layer_lacks_bytes: int = 0
    """where no layer fits the GPUs: how much more the first would need"""
    whole: WholeOffload | None = None
    """what the whole offload lacks, where there is one and it does not fit"""

    @property
    def n_layers(self) -> int:
        """Return the layers that can be offloaded: all blocks, and the output."""
        return self.file.model_tensors.n_layer + 1


def devices_with_budgets(choice: PlannedChoice, budgets: Budgets) -> list[tuple[DeviceBytes, int]]:
    """Return the devices that hold something, GPUs first, each with its budget."""
    asked, vram = choice.footprint.asked, budgets.vram_bytes
    found = []
    for device in sorted(choice.footprint.devices, key=lambda device: (device.on_host, device.name)):
        place = asked.index(device.name) if device.name in asked else len(asked)
        found.append((device, budgets.ram_bytes if device.on_host else vram[min(place, len(vram) - 1)]))
    return found


def state_bytes(choice: PlannedChoice) -> dict[str, int]:
    """Return how much of the cache of each device is recurrent state, which does not grow with the context."""
    asked, placement, n_layer = choice.footprint.asked, choice.placement, choice.file.model_tensors.n_layer
    found: dict[str, int] = {}
    for layer, size in layer_states(ModelKeys(choice.file.metadata)).items():
        on_host = not asked or layer < n_layer + 1 - placement.n_gpu_layers
        name = "CPU" if on_host else asked[gpu_of(layer, placement, n_layer, len(asked))]
        found[name] = found.get(name, 0) + size * choice.settings.n_parallel
    return found


def placed_settings(settings: LoadSettings, placement: Placement) -> LoadSettings:
    """Return the settings with a placement in them; overrides given by hand come first, for the first match wins."""
    return replace(
        settings,
        n_gpu_layers=placement.n_gpu_layers,
        tensor_overrides=settings.tensor_overrides + placement.overrides,
        tensor_split=tuple(float(count) for count in placement.tensor_split),
    )


def ranked(choices: Sequence[PlannedChoice], prefer: Prefer) -> list[PlannedChoice]:
    """Return choices, best first, by `rank_key`; among equals the faster one."""
    fast_first = sorted(choices, key=lambda one: -one.tokens_per_second)
    return sorted(fast_first, key=lambda one: rank_key(_candidate(one), prefer))


def _candidate(one: PlannedChoice) -> Candidate:
    # The step among all placements, so that experts on the GPU count as layers do.
    layers = one.placement.n_gpu_layers - one.placement.n_cpu_moe
    return Candidate(
        one.file.profile, one.file.bits, one.file.file_bytes, str(one.settings.kv_types), layers, one.fits_whole
    )
