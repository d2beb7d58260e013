"""Devices that are arithmetic: a layer takes its weights and its share of a KV cache, and work takes compute buffers."""

from dataclasses import dataclass

from toolkit.llama.footprint import DeviceBytes, Footprint
from toolkit.llama.load_settings import LoadSettings
from toolkit.memory.placement import ModelTensors, Placement
from toolkit.memory.skeleton import Skeleton

MIB = 1 << 20


@dataclass
class MadeUpDevices:
    """Answers as llama.cpp would: blocks from the last, the output as one more layer, experts where overrides say."""

    tensors: ModelTensors
    n_devices: int = 1
    kv_per_token: int = 0
    """bytes of one block"""
    compute_bytes: int = 0
    asked: int = 0

    def footprint(self, placement: Placement, n_ctx: int = 0) -> Footprint:
        """Return what a placement takes."""
        self.asked += 1
        sizes = self.tensors.layer_bytes(placement)
        blocks = [size + self.kv_per_token * n_ctx for size in sizes[:-1]] + sizes[-1:]
        counts = placement.tensor_split or (len(blocks),)
        devices, start = [], 0
        for index, count in enumerate(counts):
            held = sum(blocks[start : start + count])
            start += count
            if count or not blocks:
                devices.append(DeviceBytes(f"GPU{index}", False, held, 0, self.compute_bytes))
        on_host = (
            sum(self.tensors.n_bytes.values())
            - sum(sizes)
            + self.kv_per_token * n_ctx * (self.tensors.n_layer - max(0, len(blocks) - 1))
        )
        devices.append(DeviceBytes("CPU", True, max(0, on_host), 0, self.compute_bytes))
        return Footprint(tuple(devices), "made up", tuple(f"GPU{index}" for index in range(self.n_devices)))

    def ask(self, _skeleton: Skeleton, settings: LoadSettings) -> Footprint:
        """Answer a planner, which tells of experts only through overrides."""
        return self.footprint(placement_of(settings), settings.n_ctx)


def placement_of(settings: LoadSettings) -> Placement:
    """Return the placement that settings were made of."""
    n_cpu_moe, cpu_experts = 0, []
    for override in settings.tensor_overrides:
        if "(" in override.pattern.split(r"\.ffn")[0]:
            n_cpu_moe = override.pattern.count("|", 0, override.pattern.index(")")) + 1
        else:
            cpu_experts.append(override.pattern.replace("\\", ""))
    split = tuple(int(count) for count in settings.tensor_split)
    return Placement(settings.n_gpu_layers, n_cpu_moe, tuple(cpu_experts), split)


def dense(layer_bytes: list[int], output_bytes: int = 0, embedding_bytes: int = 0) -> ModelTensors:
    """Return a model of blocks of these sizes."""
    blocks = {f"blk.{index}.ffn_up.weight": size for index, size in enumerate(layer_bytes)}
    return ModelTensors(
        {"token_embd.weight": embedding_bytes, "output.weight": output_bytes, **blocks}, len(layer_bytes)
    )


def mixture(n_layer: int, attention_bytes: int, expert_bytes: int, output_bytes: int = 0) -> ModelTensors:
    """Return a model whose every block has attention and three stacks of experts."""
    sizes = {"token_embd.weight": 0, "output.weight": output_bytes}
    for block in range(n_layer):
        sizes[f"blk.{block}.attn_q.weight"] = attention_bytes
        sizes |= {f"blk.{block}.ffn_{part}_exps.weight": expert_bytes for part in ("gate", "up", "down")}
    return ModelTensors(sizes, n_layer)
