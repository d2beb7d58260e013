"""How to run a planned file, whatever the program."""

from dataclasses import dataclass
from pathlib import Path

from toolkit.llama.devices import SIMULATED
from toolkit.llama.load_settings import F16_KV, FlashAttention, KvTypes, TensorOverride
from toolkit.memory.placement import Placement
from toolkit.planning.choice import PlannedChoice

UBATCH = 512
"""llama.cpp's default"""


@dataclass(frozen=True)
class LaunchPlan:
    """A file and the settings that it was planned with."""

    path: Path
    n_ctx: int
    n_gpu_layers: int
    kv_types: KvTypes = F16_KV
    n_cpu_moe: int = 0
    overrides: tuple[TensorOverride, ...] = ()
    """tensors that stay on the CPU beside the experts of the first `n_cpu_moe` blocks"""
    tensor_split: tuple[int, ...] = ()
    n_parallel: int = 1
    kv_unified: bool = False
    n_ubatch: int = UBATCH
    flash_attention: FlashAttention = "auto"
    swa_full: bool = False
    rpc: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    """what the layers are divided between, in this order; `none` for the CPU alone, nothing for all there are"""
    profile: str = ""
    mmproj: Path | None = None
    draft: Path | None = None

    @property
    def quantized_kv(self) -> bool:
        """Tell whether the KV cache needs flash attention."""
        return self.kv_types != F16_KV

    @property
    def attention(self) -> FlashAttention:
        """Return the setting of flash attention, which a quantized cache needs."""
        return "on" if self.quantized_kv and self.flash_attention == "auto" else self.flash_attention


def launch_plan(choice: PlannedChoice, path: Path) -> LaunchPlan:
    """Return how to run a choice once its file is at `path`."""
    settings, placement = choice.settings, choice.placement
    return LaunchPlan(
        path,
        settings.n_ctx,
        placement.n_gpu_layers,
        settings.kv_types,
        placement.n_cpu_moe,
        Placement(0, cpu_expert_tensors=placement.cpu_expert_tensors).overrides,
        placement.tensor_split,
        settings.n_parallel,
        settings.kv_unified,
        settings.n_ubatch,
        settings.flash_attention,
        settings.swa_full,
        settings.rpc,
        _devices(choice),
        choice.file.profile,
    )


def _devices(choice: PlannedChoice) -> tuple[str, ...]:
    settings = choice.settings
    if settings.device == "cpu" and not settings.rpc:
        return ("none",)
    # Left to itself, llama.cpp puts servers before GPUs, which is not what was planned.
    return choice.footprint.asked if settings.rpc and SIMULATED not in choice.footprint.answered_by else ()
