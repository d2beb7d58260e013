"""Tensors that are made up, for checkpoints that the kit lacks."""

import shutil
from collections.abc import Mapping
from typing import Any

import numpy
from compare import KIT
from editable_checkpoint import EditableCheckpoint

Shapes = Mapping[str, tuple[int, ...]]
GATE_UP_DOWN = ("gate_proj", "up_proj", "down_proj")


def made_up(seed: int, shapes: Shapes, dtype: str = "BF16") -> dict[str, tuple[str, numpy.ndarray]]:
    """Return tensors that are exact in bfloat16; norms lie around 1."""
    random = numpy.random.RandomState(seed)
    return {name: _tensor(random, name, shape, dtype) for name, shape in shapes.items()}


def _tensor(
    random: numpy.random.RandomState, name: str, shape: tuple[int, ...], dtype: str
) -> tuple[str, numpy.ndarray]:
    centre = 1.0 if "norm" in name or "ln_" in name else 0.0
    values = (centre + random.randint(-63, 64, shape) / 512).astype("<f4")
    return (dtype, values) if dtype == "F32" else (dtype, (values.view("<u4") >> 16).astype("<u2"))


def bfloat16(random: numpy.random.RandomState, shape: tuple[int, ...]) -> tuple[str, numpy.ndarray]:
    values = (random.randint(-127, 128, shape) / 1024).astype("<f4")  # exact in bfloat16
    return "BF16", (values.view("<u4") >> 16).astype("<u2")


def float32(random: numpy.random.RandomState, shape: tuple[int, ...]) -> tuple[str, numpy.ndarray]:
    return "F32", (random.standard_normal(shape) / 16).astype("<f4")


def blocks(prefix: str, n_layer: int, shapes: Shapes, skip: tuple[str, ...] = ()) -> dict[str, tuple[int, ...]]:
    """Return the shapes for every block; names in `skip` are left out of the first."""
    return {
        f"{prefix}.{layer}.{name}": shape
        for layer in range(n_layer)
        for name, shape in shapes.items()
        if layer or name not in skip
    }


def copy_tokenizer(checkpoint: EditableCheckpoint, case: str) -> None:
    """Put the tokenizer files of another case in place of the checkpoint's own."""
    for name in ("vocab.txt", "tokenizer.model", "tokenizer.json", "tokenizer_config.json"):
        (checkpoint.directory / name).unlink(missing_ok=True)
    for file in (KIT / "sources" / case).iterdir():
        if file.is_file() and file.name not in ("config.json", "weights.json"):
            shutil.copyfile(file, checkpoint.directory / file.name)


def replace_all(checkpoint: EditableCheckpoint, config: dict[str, Any], tensors: Any) -> None:
    checkpoint.config = config
    checkpoint.tensors = tensors
