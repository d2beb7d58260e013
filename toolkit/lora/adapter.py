"""An adapter directory of PEFT or MLX: its settings and its pairs of matrices, indexed but not read."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from toolkit.architectures.parts.row_sources import Reshaped, Transposed
from toolkit.architectures.parts.transforms import row_range
from toolkit.checkpoint.safetensors_reader import read_safetensors
from toolkit.checkpoint.tensor import CheckpointTensor
from toolkit.checkpoint.torch_reader import read_torch
from toolkit.errors import CheckpointError, TensorError
from toolkit.gguf.rows import RowSource
from toolkit.lora.settings import CONFIG, FUSE, MERGE, LoraSettings, is_mlx, mlx_settings, peft_settings, read_config
from toolkit.sources.tensor_names import without_wrappers

WEIGHTS: dict[str, Callable[[Path], Mapping[str, CheckpointTensor]]] = {
    "adapter_model.safetensors": read_safetensors,
    "adapter_model.bin": read_torch,
}
MLX_WEIGHTS = "adapters.safetensors"
_PREFIX = "base_model.model."
_LORA = re.compile(r"(?P<module>.+)\.lora_(?:embedding_)?(?P<side>[AB])(?:\.(?!bias)\w+?)?(?:\.weight)?")
_MLX_LORA = re.compile(r"(?P<module>.+)\.lora_(?P<side>[ab])")
_MLX_MIXTRAL = {"gate_proj": "w1", "down_proj": "w2", "up_proj": "w3"}
"""MLX's names for the experts of Mixtral -> the checkpoint's"""
_FULL = re.compile(r"(?P<module>.+?)(?:\.modules_to_save(?:\.\w+)?)?\.(?:weight|bias)")


@dataclass(frozen=True)
class LoraPair:
    """What an adapter adds to a weight [outputs, inputs]: B A times a factor.

    Of an embedding [vocabulary, width] it is the transpose of that.
    """

    a: RowSource
    """[rank, inputs], of an embedding [rank, vocabulary]"""
    b: RowSource
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
    left_out: tuple[str, ...] = ()
    """modules of which the adapter replaces whole weights, where these are left out"""


_Sides = Iterator[tuple[str, str, RowSource]]
"""module, A or B, and the rows of that matrix"""


def read_adapter(directory: Path, *, leave_out_whole: bool = False) -> Adapter:
    """Index an adapter; with `leave_out_whole`, leave out the whole weights that it has beside its pairs.

    Raises CheckpointError if files are missing or damaged, ConfigError for a kind of adapter that llama.cpp does not
    apply, TensorError for tensors that are not a pair of matrices.
    """
    config = read_config(directory)
    if is_mlx(config):
        settings = mlx_settings(config)
        _, tensors = _tensors(directory, {MLX_WEIGHTS: read_safetensors})
        return Adapter(directory, settings, _pairs(_mlx_sides(tensors, settings.rank)))
    settings = peft_settings(config)
    file, tensors = _tensors(directory, WEIGHTS)
    others = [name for name in tensors if _LORA.fullmatch(name) is None]
    whole = _whole_weights(others, leave_out=leave_out_whole)
    pairs = _pairs(_sides(tensors))
    if not pairs:
        raise TensorError(f"{file} holds no lora_A and lora_B matrices")
    return Adapter(directory, settings, pairs, whole)


def _tensors(
    directory: Path, readers: Mapping[str, Callable[[Path], Mapping[str, CheckpointTensor]]]
) -> tuple[str, dict[str, CheckpointTensor]]:
    """Return the file of weights, and its tensors by the names that the base gives to modules."""
    file = next((name for name in readers if (directory / name).is_file()), None)
    if file is None:
        lacking = f"{'neither' if len(readers) > 1 else 'no'} {' nor '.join(readers)}"
        raise CheckpointError(f"{directory} has {lacking}; give the directory of an adapter")
    stored = readers[file](directory / file)
    return file, {bare.removeprefix(_PREFIX): stored[name] for name, bare in without_wrappers(stored).items()}


def _sides(tensors: Mapping[str, CheckpointTensor]) -> _Sides:
    for name, tensor in tensors.items():
        match = _LORA.fullmatch(name)
        if match is not None:
            yield match["module"], match["side"], tensor.rows()


def _mlx_sides(tensors: Mapping[str, CheckpointTensor], rank: int) -> Iterator[tuple[str, str, RowSource]]:
    """Yield the module, the side (A or B) and the rows of each matrix of MLX, as PEFT would store them; experts one by one.

    MLX computes x W + scale (x a) b, with a [inputs, rank] and b [rank, outputs], both transposed against PEFT's. Those of
    experts are stacked, and not transposed: a [experts, rank, inputs], b [experts, outputs, rank]. Source:
    mlx_lm/tuner/lora.py and tuner/utils.py of mlx-lm 0.32.

    Raises TensorError for a tensor that is not such a matrix.
    """
    for name, tensor in tensors.items():
        match = _MLX_LORA.fullmatch(name)
        if match is None:
            raise TensorError(f"{name} is neither lora_a nor lora_b, which is all that llama.cpp can apply: {FUSE}")
        module, side = match["module"], match["side"].upper()
        if len(tensor.shape) == 3:
            yield from _experts(module, side, tensor)
        elif len(tensor.shape) == 2 and rank == tensor.shape[1 if side == "A" else 0]:
            yield module, side, Transposed(tensor.rows())
        else:
            raise TensorError(f"{name} has shape {list(tensor.shape)}, but {CONFIG} says rank {rank}")


def _experts(module: str, side: str, tensor: CheckpointTensor) -> Iterator[tuple[str, str, RowSource]]:
    parent, _, last = module.rpartition(".")
    names = _MLX_MIXTRAL if "block_sparse_moe." in module else {}
    experts, height, length = tensor.shape
    flat = Reshaped(tensor.rows(), (experts * height, length))
    for expert in range(experts):
        name = f"{parent.replace('switch_mlp', 'experts')}.{expert}.{names.get(last, last)}"
        yield name, side, row_range(flat, expert * height, (expert + 1) * height)


def _pairs(sides: _Sides) -> dict[str, LoraPair]:
    sides_of: dict[str, dict[str, RowSource]] = {}
    for module, side, rows in sides:
        if sides_of.setdefault(module, {}).setdefault(side, rows) is not rows:
            raise TensorError(f"{module} has two lora_{side}; save each adapter to a directory of its own")
    return {module: _pair(module, both) for module, both in sides_of.items()}


def _whole_weights(names: Sequence[str], *, leave_out: bool) -> tuple[str, ...]:
    """Return the modules whose whole weights are among other tensors than pairs; refuses what may not be left out."""
    magnitudes = [name for name in names if "lora_magnitude_vector" in name]
    if magnitudes:
        raise TensorError(f"{magnitudes[0]}: the adapter is DoRA, which llama.cpp cannot apply: {MERGE}")
    modules = sorted({match["module"] if (match := _FULL.fullmatch(name)) else name for name in names})
    if not modules or (leave_out and not any(".lora_" in name for name in names)):
        return tuple(modules)
    raise TensorError(
        f"the adapter replaces whole weights ({listed(modules)}), which llama.cpp cannot apply: {MERGE}, or leave them out "
        "(--leave-out-whole-weights)"
    )


def listed(modules: Sequence[str]) -> str:
    """Return the first names of some, and how many more there are."""
    return ", ".join(modules[:5]) + (f" and {len(modules) - 5} more" if len(modules) > 5 else "")


def _pair(module: str, sides: Mapping[str, RowSource]) -> LoraPair:
    missing = next((side for side in "AB" if side not in sides), None)
    if missing is not None:
        raise TensorError(f"{module} has no lora_{missing}; the adapter is damaged")
    a, b = sides["A"], sides["B"]
    if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[0] != b.shape[1] or 0 in (*a.shape, *b.shape):
        raise TensorError(
            f"{module}: lora_A is {list(a.shape)} and lora_B {list(b.shape)}, expected [rank, inputs] and [outputs, rank]"
        )
    return LoraPair(a, b)
