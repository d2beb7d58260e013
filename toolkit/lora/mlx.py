"""Adapters of MLX: x W + scale (x a) b, with a [inputs, rank] and b [rank, outputs], both turned over against PEFT's.

Those of experts are stacked, and not turned over: a [experts, rank, inputs], b [experts, outputs, rank]. Source:
mlx_lm/tuner/lora.py and tuner/utils.py of mlx-lm 0.32.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from toolkit.architectures.parts.row_sources import Reshaped, Transposed
from toolkit.architectures.parts.transforms import row_range
from toolkit.checkpoint.tensor import CheckpointTensor
from toolkit.errors import ConfigError, TensorError
from toolkit.gguf.rows import RowSource
from toolkit.lora.settings import CONFIG, LoraSettings, positive

WEIGHTS = "adapters.safetensors"
FUSE = "merge it into its base (mlx_lm.fuse) and convert the result"
_LORA = re.compile(r"(?P<module>.+)\.lora_(?P<side>[ab])")
_MIXTRAL = {"gate_proj": "w1", "down_proj": "w2", "up_proj": "w3"}
"""MLX's names for the experts of Mixtral -> the checkpoint's"""


def is_mlx(config: Mapping[str, Any]) -> bool:
    """Tell whether adapter_config.json was written by MLX."""
    return "peft_type" not in config and bool(config.keys() & {"fine_tune_type", "lora_parameters"})


def mlx_settings(config: Mapping[str, Any]) -> LoraSettings:
    """Return the numbers of an adapter: MLX's scale is alpha / rank.

    Raises ConfigError for another kind than LoRA, or numbers that are missing.
    """
    kind, parameters = config.get("fine_tune_type", "lora"), config.get("lora_parameters")
    if kind != "lora":
        raise ConfigError(f"{CONFIG}: fine_tune_type is {kind!r}; only 'lora' can be applied by llama.cpp: {FUSE}")
    if not isinstance(parameters, Mapping):
        raise ConfigError(f"{CONFIG}: lora_parameters is {parameters!r}, expected an object")
    if config.get("use_dora") or parameters.get("use_dora"):
        raise ConfigError(f"{CONFIG}: the adapter is DoRA (use_dora); llama.cpp cannot apply it: {FUSE}")
    rank, base = int(positive(parameters, "rank")), config.get("model")
    return LoraSettings(
        base=base if isinstance(base, str) and base else None,
        rank=rank,
        alpha=positive(parameters, "scale") * rank,
        alphas={},
        rank_stabilized=False,
    )


def mlx_sides(tensors: Mapping[str, CheckpointTensor], rank: int) -> Iterator[tuple[str, str, RowSource]]:
    """Yield the module, the side (A or B) and the rows of each matrix, as PEFT would store them; experts one by one.

    Raises TensorError for a tensor that is no such matrix.
    """
    for name, tensor in tensors.items():
        match = _LORA.fullmatch(name)
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
    names = _MIXTRAL if "block_sparse_moe." in module else {}
    experts, height, length = tensor.shape
    flat = Reshaped(tensor.rows(), (experts * height, length))
    for expert in range(experts):
        one = f"{parent.replace('switch_mlp', 'experts')}.{expert}.{names.get(last, last)}"
        yield one, side, row_range(flat, expert * height, (expert + 1) * height)
