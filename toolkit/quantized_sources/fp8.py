"""FP8 (E4M3 or E5M2) with scales for the tensor, for each row, or for each block of rows and columns.

w = fp8 * scale. DeepSeek calls the scale `weight_scale_inv`, FBGEMM and others `weight_scale`, Mistral `qscale_weight`.
"""

from toolkit.errors import CheckpointError
from toolkit.quantized_sources.layouts import ScaledWeights, fitting_tiles
from toolkit.quantized_sources.numbers import FLOAT8_DTYPES
from toolkit.quantized_sources.quantized_format import DecodedTensors, DequantizedTensor, Parts, QuantizedFormat


def decode_fp8(parts: Parts) -> DecodedTensors:
    """Return the tensors of a checkpoint with FP8 weights.

    Raises CheckpointError for an FP8 tensor without a scale, or with one that does not fit it.
    """
    block = _declared_block(parts)
    names = [name for name, tensor in parts.tensors.items() if tensor.dtype in FLOAT8_DTYPES and "scale" not in name]
    return DecodedTensors({name: _decode_tensor(parts, name, block) for name in names})


def scale_names(weight: str) -> tuple[str, ...]:
    """Return the names that the scale of a weight may have."""
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


def _decode_tensor(parts: Parts, name: str, block: tuple[int, int] | None) -> DequantizedTensor:
    codes = parts.require(name, name)
    candidates = scale_names(name)
    scale_name = next((candidate for candidate in candidates if candidate in parts.tensors), candidates[0])
    tiles = fitting_tiles(parts, name, scale_name, block)
    return parts.tensor(name, codes.shape, ScaledWeights(codes, tiles).values, (name, scale_name))


FP8 = QuantizedFormat(
    names=("fp8", "fbgemm_fp8"),
    decode=decode_fp8,
    library="FP8",
    endings=(".weight_scale", ".weight_scale_inv", ".qscale_weight"),
)
