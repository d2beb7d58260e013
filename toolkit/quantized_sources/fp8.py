"""FP8 (E4M3 or E5M2) with scales for the tensor, for each row, or for each block of rows and columns.

w = fp8 * scale. DeepSeek calls the scale `weight_scale_inv`, FBGEMM and others `weight_scale`, Mistral `qscale_weight`.
"""

import re

from toolkit.errors import CheckpointError
from toolkit.quantized_sources.dequantized import DequantizedTensor, Opened
from toolkit.quantized_sources.parts import Parts
from toolkit.quantized_sources.scaled import ScaledWeights
from toolkit.quantized_sources.tiles import Tiles, spread

FLOAT8_DTYPES = ("F8_E4M3", "F8_E5M2")


def open_fp8(parts: Parts) -> Opened:
    """Return the tensors of a checkpoint with FP8 weights.

    Raises CheckpointError for an FP8 tensor without a scale, or with one that does not fit it.
    """
    block = _declared_block(parts)
    names = [name for name, tensor in parts.tensors.items() if tensor.dtype in FLOAT8_DTYPES and "scale" not in name]
    return Opened({name: _open_tensor(parts, name, block) for name in names})


def scale_names(weight: str) -> tuple[str, ...]:
    """Return the names under which the scale of a weight is found."""
    qscale = (f"{weight.removesuffix('weight')}qscale_weight",) if weight.endswith(".weight") else ()
    return (f"{weight}_scale_inv", f"{weight}_scale", *qscale)


def _declared_block(parts: Parts) -> tuple[int, int] | None:
    block = parts.declaration.settings.get("weight_block_size")
    if block is None:
        return None
    if (
        not isinstance(block, list)
        or len(block) != 2
        or not all(isinstance(size, int) and 0 < size < 1 << 31 for size in block)
    ):
        raise CheckpointError(f"{parts.declaration.file}: weight_block_size is {block!r}, expected [rows, columns]")
    return block[0], block[1]


def _open_tensor(parts: Parts, name: str, block: tuple[int, int] | None) -> DequantizedTensor:
    codes = parts.require(name, name)
    scale_name = next((found for found in scale_names(name) if found in parts.tensors), scale_names(name)[0])
    tiles = fitting_tiles(parts, name, scale_name, block)
    return parts.tensor(name, codes.shape, ScaledWeights(codes, tiles).values, (name, scale_name))


def fitting_tiles(parts: Parts, weight: str, numbers_name: str, tile: tuple[int, int] | None) -> Tiles:
    """Return how the numbers of a tensor lie over a weight.

    Raises CheckpointError if they are missing or of another shape than the declared layout has.
    """
    shape = parts.tensors[weight].shape
    found = parts.require(numbers_name, weight)
    if len(shape) < 2:
        raise CheckpointError(f"{weight} has shape {list(shape)}; a quantized weight has two axes or more")
    tiles = spread(found, shape, tile)
    if tiles is None:
        declared = f"blocks of {tile[0]} x {tile[1]}" if tile else "one for the tensor, or one for each row"
        raise CheckpointError(
            f"{found.name} has shape {list(found.shape)}, which does not fit {weight} {list(shape)} "
            f"({parts.declaration.method}: {declared})"
        )
    return tiles


ACTIVATION_SCALES = re.compile(
    r".*[._]((input|output|activation|[kvqp]|prob|kv)_(scale|zero_point|global_scale|scale_inv)|qscale_act"
    r"|kv_cache_scaling_factor|[kv]_cache_scale)"
)
"""scales of activations and of the KV cache, which a GGUF file has no place for"""
