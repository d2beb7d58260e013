"""PEFT adapters for cases of the kit, made as the kit makes weights, and what their merged models are."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy
from editable_checkpoint import EditableCheckpoint, write_safetensors
from weights import bfloat16_bits, noise

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class AdapterShape:
    """How an adapter is made; `ranks` and `settings["alpha_pattern"]` say where modules differ."""

    modules: Sequence[str]
    """ends of the names of adapted modules"""
    rank: int = 4
    ranks: dict[str, int] = field(default_factory=dict)
    dtype: str = "F32"
    gain: float = 0.1
    settings: dict[str, Any] = field(default_factory=dict)


def make_adapter(base: EditableCheckpoint, directory: Path, shape: AdapterShape, **changes: Any) -> Path:
    """Write an adapter for `base`; `changes` go into adapter_config.json."""
    directory.mkdir(exist_ok=True)
    tensors = {}
    for module in adapted(base, shape):
        rows, columns = base.tensors[f"{module}.weight"][1].shape
        rank, names = shape.ranks.get(module.rpartition(".")[2], shape.rank), ("lora_A.weight", "lora_B.weight")
        if module.endswith("embed_tokens"):
            rows, columns, names = columns, rows, ("lora_embedding_A", "lora_embedding_B")
        for name, dimensions in zip(names, ((rank, columns), (rows, rank)), strict=True):
            full = f"base_model.model.{module}.{name}"
            values = noise("adapter", full, rank * max(dimensions)).reshape(dimensions) * numpy.float32(shape.gain)
            tensors[full] = (shape.dtype, bfloat16_bits(values) if shape.dtype == "BF16" else values)
    write_safetensors(directory / "adapter_model.safetensors", tensors)
    settings = {"peft_type": "LORA", "r": shape.rank, "lora_alpha": 8, **shape.settings, **changes}
    (directory / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return directory


def adapted(base: EditableCheckpoint, shape: AdapterShape) -> list[str]:
    """Return the modules of the base that the adapter is for."""
    modules = (name.removesuffix(".weight") for name in sorted(base.tensors) if name.endswith(".weight"))
    return [module for module in modules if module.endswith(tuple(shape.modules))]


def floats(dtype: str, stored: numpy.ndarray) -> numpy.ndarray:
    """Return stored elements as float32; BF16 comes as uint16."""
    return (stored.astype("<u4") << 16).view("<f4") if dtype == "BF16" else stored.astype("<f4")
