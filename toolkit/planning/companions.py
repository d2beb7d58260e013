"""Files that are loaded beside a model and take memory of their own: a draft model, a projector for images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from toolkit.errors import GgufError
from toolkit.gguf.reader import read_gguf
from toolkit.gguf.scratch import ScratchFolder
from toolkit.llama.load_settings import LoadSettings
from toolkit.memory.plannable import model_from_gguf
from toolkit.memory.skeleton import write_skeleton
from toolkit.planning.budgets import Budgets
from toolkit.planning.request import MemorySource

PROJECTOR = "clip"
_FLOAT_BYTES = 4


@dataclass(frozen=True)
class Companion:
    """What a file beside the model takes on the first GPU, or of RAM where there is none."""

    role: Literal["draft", "mmproj"]
    path: Path
    weights_bytes: int
    kv_cache_bytes: int
    compute_bytes: int
    host_bytes: int = 0
    """what it takes of RAM beside that"""
    estimated: bool = False
    """whether the compute buffer is a formula's"""

    @property
    def device_bytes(self) -> int:
        """Return the bytes on the device that it lies on."""
        return self.weights_bytes + self.kv_cache_bytes + self.compute_bytes


def draft_model(path: Path, settings: LoadSettings, memory_source: MemorySource) -> Companion:
    """Return what a draft model takes, wholly on the first GPU, with the same context as the model.

    Raises GgufError if the file is no model.
    """
    planned = model_from_gguf(path).make("")
    whole = replace(settings, n_gpu_layers=planned.model_tensors.n_layer + 1, n_devices=1, rpc=())
    with ScratchFolder() as folder:
        footprint = memory_source.ask(write_skeleton(planned.metadata, planned.tensors, folder / "draft.gguf"), whole)
    # Without a GPU everything lies in RAM, and that is the device.
    on_device = [device for device in footprint.devices if not device.on_host] or list(footprint.devices)
    weights, cached, compute = (
        sum(getattr(device, kind) for device in on_device)
        for kind in ("weights_bytes", "kv_cache_bytes", "compute_bytes")
    )
    beside = sum(device.total_bytes for device in footprint.devices if device not in on_device)
    return Companion("draft", path, weights, cached, compute, beside)


def projector(path: Path) -> Companion:
    """Return what a projector takes on the first GPU: its tensors, and about as much as one image's attention needs.

    Raises GgufError if the file is no projector.
    """
    file = read_gguf(path)
    found = file.metadata.get("general.architecture")
    if found is None or found.value != PROJECTOR:
        raise GgufError(
            f"{path} is no projector: general.architecture is {found.value if found else 'missing'}, not {PROJECTOR}; give "
            "the mmproj file that belongs to the model"
        )
    weights = sum(rows.type.tensor_bytes(rows.shape) for rows in file.tensors.values())

    def number(key: str) -> int:
        value = file.metadata.get(f"clip.vision.{key}")
        return value.value if value is not None and isinstance(value.value, int) else 0

    patches = (number("image_size") // max(1, number("patch_size"))) ** 2
    scores = patches * patches * number("attention.head_count")
    inner = patches * (2 * number("feed_forward_length") + 4 * number("embedding_length"))
    return Companion("mmproj", path, weights, 0, (scores + inner) * _FLOAT_BYTES, estimated=True)


def budgets_beside(budgets: Budgets, companions: Sequence[Companion]) -> Budgets:
    """Return what is left for the model."""
    taken = sum(companion.device_bytes for companion in companions)
    ram = budgets.ram_bytes - sum(companion.host_bytes for companion in companions)
    if not any(budgets.vram_bytes):
        return replace(budgets, ram_bytes=max(0, ram - taken))
    first, *others = budgets.vram_bytes
    # Not to nothing: a budget of 0 would mean the CPU alone.
    return replace(budgets, vram_bytes=(max(1, first - taken), *others), ram_bytes=max(0, ram))
