"""How to load a model to run it: what a plan decided, and what only running needs."""

from collections.abc import Callable
from dataclasses import dataclass, fields

from toolkit.llama.devices import choose_devices
from toolkit.llama.load_settings import LoadSettings

TensorWatcher = Callable[[int, bool, object], bool]


@dataclass(frozen=True, kw_only=True)
class RunSettings(LoadSettings):
    """How a model is loaded, and what only running it needs; `n_outputs` may be exceeded by a batch."""

    n_threads: int | None = None
    use_mmap: bool = True
    device_pointers: tuple[int, ...] | None = None
    """ggml_backend_dev_t pointers to offload to, RPC servers' among them; None for all that are registered"""
    on_tensor: TensorWatcher | None = None
    """called by ggml for every node of a graph: before it with True, which asks for interest, and after it with False"""


def run_settings(settings: LoadSettings, n_threads: int | None = None, *, use_mmap: bool = True) -> RunSettings:
    """Return how to run what was planned; RPC servers are registered with ggml."""
    devices, _ = choose_devices(settings)
    return RunSettings(
        **{field.name: getattr(settings, field.name) for field in fields(LoadSettings)},
        n_threads=n_threads,
        use_mmap=use_mmap,
        device_pointers=tuple(device.pointer for device in devices),
    )
