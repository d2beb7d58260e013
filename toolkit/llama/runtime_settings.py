"""How to load a model to run it: what a plan decided, and what only running needs."""

from collections.abc import Callable
from dataclasses import dataclass, fields

from toolkit.llama.devices import choose_devices
from toolkit.llama.load_settings import F16_KV, FlashAttention, KvTypes, LoadSettings, TensorOverride

TensorWatcher = Callable[[int, bool, object], bool]


@dataclass(frozen=True)
class RuntimeSettings:
    """How to load a model: everything that a plan decides, under the names that `LoadSettings` has for it."""

    n_ctx: int = 512
    n_batch: int = 512
    n_ubatch: int = 512
    n_gpu_layers: int = 0
    kv_types: KvTypes = F16_KV
    flash_attention: FlashAttention = "auto"
    n_threads: int | None = None
    use_mmap: bool = True
    devices: tuple[int, ...] | None = None
    """ggml_backend_dev_t pointers to offload to, RPC servers' among them; None for all that are registered"""
    n_parallel: int = 1
    n_outputs: int = 1
    """what `footprint` counts from the beginning, and a batch may exceed"""
    kv_unified: bool = False
    swa_full: bool = False
    tensor_overrides: tuple[TensorOverride, ...] = ()
    tensor_split: tuple[float, ...] = ()
    on_tensor: TensorWatcher | None = None
    """called by ggml for every node of a graph: before it with True, which asks for interest, and after it with False"""


def runtime_settings(settings: LoadSettings, n_threads: int | None = None, *, use_mmap: bool = True) -> RuntimeSettings:
    """Return how to run what was planned; RPC servers are registered with ggml."""
    shared = {field.name for field in fields(LoadSettings)} & {field.name for field in fields(RuntimeSettings)}
    devices, _ = choose_devices(settings)
    return RuntimeSettings(
        **{name: getattr(settings, name) for name in shared},
        n_threads=n_threads,
        use_mmap=use_mmap,
        devices=tuple(device.pointer for device in devices),
    )
