"""Tokens per second from the bytes that a token moves: generation waits for memory, not for arithmetic."""

from dataclasses import dataclass

from toolkit.gguf.format import EMBEDDING
from toolkit.llama.footprint import Footprint
from toolkit.memory.placement import ModelTensors, Placement, gpu_of
from toolkit.memory.plannable import Experts

GIGA = 1_000_000_000
EFFICIENCY = 0.75
"""Share of a memory's bandwidth that reading weights gets in practice."""
DEFAULT_GPU_BYTES_PER_SECOND = 400 * GIGA
"""Of a card that nothing is known about: a middle-class one."""
LAYER_SECONDS = 5e-6
"""What starting the work of one layer costs, whatever its size."""
SPILLED_SHARE = 0.3
"""A GPU slower than this share of what its bandwidth allows has likely had its memory moved to RAM."""
FASTEST_JUDGED = 200.0
"""Tokens per second beyond which other things than bandwidth decide, so that nothing follows from a low rate."""


@dataclass(frozen=True)
class Bandwidths:
    """How fast each GPU's memory, in llama.cpp's order, and the host's can be read, and where the numbers come from."""

    gpu_bytes_per_second: tuple[float, ...]
    ram_bytes_per_second: float
    origin: str = "given"


@dataclass(frozen=True)
class MovedBytes:
    """What one token moves of each GPU's memory and of the host's."""

    gpus: tuple[float, ...]
    host: float


def moved_bytes(tensors: ModelTensors, experts: Experts, placement: Placement, footprint: Footprint) -> MovedBytes:
    """Return the weights that a token needs and the KV cache, where they lie.

    Of the token embedding a single row is read, unless it is the output too.
    """
    expert_names = {name for names in tensors.experts.values() for name in names}
    on_gpu = tensors.on_gpu(placement)
    n_gpus = max(1, len(placement.tensor_split) or len(footprint.asked))
    gpus, host = [0.0] * n_gpus, 0.0
    for name, n_bytes in tensors.n_bytes.items():
        moved = n_bytes * (experts.share if name in expert_names else 1.0)
        if name == EMBEDDING:
            moved = float(n_bytes) if tensors.tied else 0.0
        layer = on_gpu.get(name)
        if name == EMBEDDING and tensors.tied and placement.n_gpu_layers:
            layer = tensors.n_layer
        if layer is None:
            host += moved
        else:
            gpus[gpu_of(layer, placement, tensors.n_layer, n_gpus)] += moved
    for index, name in enumerate(footprint.asked[:n_gpus]):
        gpus[index] += sum(device.kv_cache_bytes for device in footprint.devices if device.name == name)
    host += sum(device.kv_cache_bytes for device in footprint.devices if device.on_host)
    return MovedBytes(tuple(gpus), host)


def tokens_per_second(moved: MovedBytes, bandwidths: Bandwidths, n_layer: int) -> float:
    """Return the rate at which tokens are generated for one sequence with a full context."""
    speeds = bandwidths.gpu_bytes_per_second or (DEFAULT_GPU_BYTES_PER_SECOND,)
    on_gpus = sum(size / speeds[min(index, len(speeds) - 1)] for index, size in enumerate(moved.gpus))
    seconds = (on_gpus + moved.host / bandwidths.ram_bytes_per_second) / EFFICIENCY
    return 1 / (seconds + n_layer * LAYER_SECONDS)


def likely_spilled(measured: float, predicted: float) -> bool:
    """Tell whether tokens per second on a GPU are so far below the prediction that its memory must lie elsewhere."""
    return predicted <= FASTEST_JUDGED and measured < SPILLED_SHARE * predicted
