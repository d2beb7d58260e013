"""Which tensors lie on the GPUs: the ways to divide a model, from nothing on them to everything.

llama.cpp puts the output and then the last blocks on the GPU first. Of a mixture of experts, the experts go there last:
a token needs a few of them and all of the rest, so the rest gains more from every byte of fast memory.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from toolkit.gguf.format import EMBEDDING, OUTPUT
from toolkit.llama.load_settings import TensorOverride

EXPERTS = r"ffn_(up|down|gate|gate_up)_(ch|)exps"
_BLOCK = re.compile(r"(?:(?:enc|dec)\.)?blk\.(\d+)\.")
_BEHIND_THE_BLOCKS = ("output", "enc.output", "dec.output")
_EXPERT = re.compile(rf"blk\.(\d+)\.{EXPERTS}\.")


@dataclass(frozen=True)
class Placement:
    """A way to divide a model between the CPU and the GPUs."""

    n_gpu_layers: int
    """blocks, counted from the last, and the output as one more"""
    n_cpu_moe: int = 0
    """blocks, counted from the first, whose experts stay on the CPU"""
    cpu_expert_tensors: tuple[str, ...] = ()
    """expert tensors of the next block that stay there too"""
    tensor_split: tuple[int, ...] = ()
    """how many of the layers go to each GPU"""

    @property
    def overrides(self) -> tuple[TensorOverride, ...]:
        """Return what llama.cpp has to be told beside the number of layers."""
        found = []
        if self.n_cpu_moe:
            blocks = "|".join(str(block) for block in range(self.n_cpu_moe))
            found.append(TensorOverride(rf"blk\.({blocks})\.{EXPERTS}"))
        found += [TensorOverride(re.escape(name)) for name in self.cpu_expert_tensors]
        return tuple(found)


@dataclass(frozen=True)
class ModelTensors:
    """The tensors of a file by name and bytes, and how many repeating blocks they make up."""

    n_bytes: Mapping[str, int]
    n_layer: int
    is_encoder: bool = False
    """whether it ends with hidden states: no output, and no embedding in its place"""

    @cached_property
    def tied(self) -> bool:
        """Tell whether the token embedding is the output too."""
        return OUTPUT not in self.n_bytes and not self.is_encoder

    @cached_property
    def experts(self) -> dict[int, tuple[str, ...]]:
        """Return the expert tensors of each block that has any, without their biases, which are small."""
        weights = {
            block: [name for name in names if name.endswith(".weight")] for block, names in self._expert_names.items()
        }
        return {block: tuple(sorted(names)) for block, names in sorted(weights.items())}

    @cached_property
    def _expert_names(self) -> dict[int, tuple[str, ...]]:
        """All that an override moves when it names the experts of a block."""
        found: dict[int, list[str]] = {}
        for name in self.n_bytes:
            match = _EXPERT.match(name)
            if match:
                found.setdefault(int(match[1]), []).append(name)
        return {block: tuple(names) for block, names in found.items()}

    @cached_property
    def layers(self) -> dict[str, int | None]:
        """Return the layer of every tensor; see `layer_of`."""
        return {name: self.layer_of(name) for name in self.n_bytes}

    def on_gpu(self, placement: Placement) -> dict[str, int]:
        """Return the layer (0 for the first block) of every tensor that lies on a GPU; the output's is n_layer."""
        first = self.n_layer + 1 - placement.n_gpu_layers
        kept = {name for block, names in self._expert_names.items() if block < placement.n_cpu_moe for name in names}
        kept.update(placement.cpu_expert_tensors)
        return {
            name: layer
            for name, layer in self.layers.items()
            if layer is not None and layer >= first and name not in kept
        }

    def layer_of(self, name: str) -> int | None:
        """Return the layer that a tensor belongs to, None for the token embedding, which always stays on the CPU.

        The copy of a tied embedding that serves as the output is not a tensor of the file.
        """
        block = block_of(name)
        if block is not None:
            return block
        return self.n_layer if name.startswith(_BEHIND_THE_BLOCKS) else None

    def layer_bytes(self, placement: Placement) -> list[int]:
        """Return the bytes of every layer that goes to a GPU, in order; the output is the last."""
        first = self.n_layer + 1 - placement.n_gpu_layers
        sizes = self._bytes_by_layer[first:]
        for block, n_bytes in self._expert_bytes.items():
            if first <= block < placement.n_cpu_moe:
                sizes[block - first] -= n_bytes
        for name in placement.cpu_expert_tensors:
            layer = self.layers[name]
            if layer is not None and layer >= first:
                sizes[layer - first] -= self.n_bytes[name]
        return sizes

    @cached_property
    def _bytes_by_layer(self) -> list[int]:
        """The bytes of all layers, wholly on a GPU; the copy of a tied embedding belongs to the output."""
        sizes = [0] * (self.n_layer + 1)
        for name, layer in self.layers.items():
            if layer is not None:
                sizes[layer] += self.n_bytes[name]
        if self.tied:
            sizes[self.n_layer] += self.n_bytes.get(EMBEDDING, 0)
        return sizes

    @cached_property
    def _expert_bytes(self) -> dict[int, int]:
        return {block: sum(self.n_bytes[name] for name in names) for block, names in self._expert_names.items()}


def block_of(name: str) -> int | None:
    """Return the block that a tensor belongs to, None if it belongs to none."""
    match = _BLOCK.match(name)
    return int(match[1]) if match else None


def placements(tensors: ModelTensors) -> list[Placement]:
    """Return the ways to divide a model, each with more on the GPUs than the one before, from nothing to everything."""
    layers = range(tensors.n_layer + 2)
    if not tensors.experts:
        return [Placement(n_gpu_layers) for n_gpu_layers in layers]
    last = max(tensors.experts)
    steps = [Placement(0)] + [Placement(n_gpu_layers, last + 1) for n_gpu_layers in layers[1:]]
    for block in sorted(tensors.experts, reverse=True):
        names = tensors.experts[block]
        below = [other for other in tensors.experts if other < block]
        n_cpu_moe = max(below) + 1 if below else 0
        whole = Placement(tensors.n_layer + 1, n_cpu_moe)
        steps += [replace(whole, cpu_expert_tensors=names[moved:]) for moved in range(1, len(names))] + [whole]
    return steps


def spread(layer_bytes: Sequence[int], room: Sequence[int]) -> tuple[int, ...] | None:
    """Return how many layers each GPU takes, filling them one after the other; None if they do not all fit.

    The order of layers and of GPUs is llama.cpp's, so filling the earlier ones to the brim leaves the least for the last.
    """
    counts, used, device = [0] * len(room), 0, 0
    for size in layer_bytes:
        while device < len(room) and used + size > room[device]:
            device, used = device + 1, 0
        if device == len(room):
            return None
        counts[device] += 1
        used += size
    return tuple(counts)


def gpu_of(layer: int, placement: Placement, n_layer: int, n_gpus: int) -> int:
    """Return the GPU that a layer lies on: the first whose layers, counted through, reach it."""
    position, reached = layer - (n_layer + 1 - placement.n_gpu_layers), 0
    for index, count in enumerate(placement.tensor_split):
        reached += count
        if position < reached:
            return index
    return n_gpus - 1 if placement.tensor_split else 0
