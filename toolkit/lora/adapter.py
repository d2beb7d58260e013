"""A PEFT adapter directory: its settings and its pairs of matrices, indexed but not read."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from toolkit.checkpoint.safetensors_reader import read_safetensors
from toolkit.checkpoint.tensor import CheckpointTensor
from toolkit.checkpoint.torch_reader import read_torch
from toolkit.errors import CheckpointError, TensorError
from toolkit.lora.settings import MERGE, LoraSettings, read_settings
from toolkit.sources.tensor_names import without_wrappers

WEIGHTS: dict[str, Callable[[Path], Mapping[str, CheckpointTensor]]] = {
    "adapter_model.safetensors": read_safetensors,
    "adapter_model.bin": read_torch,
}
_PREFIX = "base_model.model."
_LORA = re.compile(r"(?P<module>.+)\.lora_(?:embedding_)?(?P<side>[AB])(?:\.(?!bias)\w+?)?(?:\.weight)?")
_FULL = re.compile(r"(?P<module>.+?)(?:\.modules_to_save(?:\.\w+)?)?\.(?:weight|bias)")


@dataclass(frozen=True)
class LoraPair:
    """What an adapter adds to a weight [outputs, inputs]: B A times a factor.

    Of an embedding [vocabulary, width] it is the transpose of that.
    """

    a: CheckpointTensor
    """[rank, inputs], of an embedding [rank, vocabulary]"""
    b: CheckpointTensor
    """[outputs, rank], of an embedding [width, rank]"""

    @property
    def rank(self) -> int:
        """Return the rank."""
        return self.b.shape[1]


@dataclass(frozen=True)
class Adapter:
    """An adapter; its pairs by the name of the module in the base model, as the checkpoint of that calls it."""

    directory: Path
    settings: LoraSettings
    pairs: dict[str, LoraPair]


def read_adapter(directory: Path) -> Adapter:
    """Index a PEFT adapter.

    Raises CheckpointError if files are missing or damaged, ConfigError for a kind of adapter that llama.cpp does not
    apply, TensorError for tensors that are no pair of matrices.
    """
    settings = read_settings(directory)
    file = next((name for name in WEIGHTS if (directory / name).is_file()), None)
    if file is None:
        raise CheckpointError(f"{directory} has neither {' nor '.join(WEIGHTS)}; give the directory of a PEFT adapter")
    pairs = _pairs(WEIGHTS[file](directory / file))
    if not pairs:
        raise TensorError(f"{file} holds no lora_A and lora_B matrices")
    return Adapter(directory, settings, pairs)


def _pairs(tensors: Mapping[str, CheckpointTensor]) -> dict[str, LoraPair]:
    sides: dict[str, dict[str, CheckpointTensor]] = {}
    others = []
    for stored, name in without_wrappers(tensors).items():
        tensor, bare = tensors[stored], name.removeprefix(_PREFIX)
        match = _LORA.fullmatch(bare)
        if match is None:
            others.append(bare)
        elif sides.setdefault(match["module"], {}).setdefault(match["side"], tensor) is not tensor:
            raise TensorError(
                f"{match['module']} has two lora_{match['side']}; save each adapter to a directory of its own"
            )
    _refuse_others(others)
    return {module: _pair(module, found) for module, found in sides.items()}


def _refuse_others(names: list[str]) -> None:
    magnitudes = [name for name in names if "lora_magnitude_vector" in name]
    if magnitudes:
        raise TensorError(f"{magnitudes[0]}: the adapter is DoRA, which llama.cpp cannot apply: {MERGE}")
    if not names:
        return
    modules = sorted({match["module"] if (match := _FULL.fullmatch(name)) else name for name in names})
    listed = ", ".join(modules[:5]) + (f" and {len(modules) - 5} more" if len(modules) > 5 else "")
    raise TensorError(f"the adapter replaces whole weights ({listed}), which llama.cpp cannot apply: {MERGE}")


def _pair(module: str, sides: Mapping[str, CheckpointTensor]) -> LoraPair:
    missing = next((side for side in "AB" if side not in sides), None)
    if missing is not None:
        raise TensorError(f"{module} has no lora_{missing}; the adapter is damaged")
    a, b = sides["A"], sides["B"]
    if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[0] != b.shape[1] or 0 in (*a.shape, *b.shape):
        raise TensorError(
            f"{module}: lora_A is {list(a.shape)} and lora_B {list(b.shape)}, expected [rank, inputs] and [outputs, rank]"
        )
    return LoraPair(a, b)
