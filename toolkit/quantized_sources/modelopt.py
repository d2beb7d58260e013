"""ModelOpt (NVIDIA): FP8 with a scale for the tensor or each row, and NVFP4 with scales of scales.

NVFP4: w = level[q] * (weight_scale[o, i / 16] * weight_scale_2).
"""

from toolkit.quantized_sources.fp4 import Nvfp4Parts, nvfp4_tensor
from toolkit.quantized_sources.layouts import ScaledWeights, fitting_tiles
from toolkit.quantized_sources.numbers import FLOAT8_DTYPES
from toolkit.quantized_sources.quantized_format import (
    BYTES,
    FLOATS,
    DecodedTensors,
    DequantizedTensor,
    Parts,
    QuantizedFormat,
)

ALGORITHMS = ("FP8", "NVFP4", "MIXED_PRECISION", "FP8_PER_CHANNEL_PER_TOKEN")


def decode_modelopt(parts: Parts) -> DecodedTensors:
    """Return the tensors of a ModelOpt checkpoint.

    Raises CheckpointError for an algorithm that is not read, or an incomplete set.
    """
    algorithm = parts.declaration.settings.get("quant_algo")
    first = next(parts.modules(".weight_scale"), None)
    if algorithm not in ALGORITHMS:
        raise parts.declaration.refusal(f"with quant_algo {algorithm!r}", first)
    decoded: dict[str, DequantizedTensor] = {}
    for module in parts.modules(".weight"):
        weight = f"{module}.weight"
        dtype = parts.tensors[weight].dtype
        if dtype in FLOAT8_DTYPES:
            decoded[weight] = _decode_fp8(parts, weight)
        elif dtype == "U8":
            decoded[weight] = _decode_nvfp4(parts, weight)
    return DecodedTensors(decoded)


def _decode_fp8(parts: Parts, weight: str) -> DequantizedTensor:
    codes = parts.require(weight, weight)
    tiles = fitting_tiles(parts, weight, f"{weight}_scale", None)
    return parts.tensor(weight, codes.shape, ScaledWeights(codes, tiles).values, (weight, f"{weight}_scale"))


def _decode_nvfp4(parts: Parts, weight: str) -> DequantizedTensor:
    codes = parts.require_matrix(weight, weight, BYTES)
    scales = parts.require_matrix(f"{weight}_scale", weight, FLOATS)
    factor = parts.require(f"{weight}_scale_2", weight)
    return nvfp4_tensor(parts, weight, Nvfp4Parts(codes, scales, factor, divides=False))


MODELOPT = QuantizedFormat(
    names=("modelopt",),
    decode=decode_modelopt,
    file="hf_quant_config.json",
    implied_by=lambda settings: "quant_algo" in settings,
)
