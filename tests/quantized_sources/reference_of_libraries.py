"""Quantize a matrix with the libraries themselves: `PYTHON tests/quantized_sources/reference_of_libraries.py`.

PYTHON has torch, safetensors, bitsandbytes, hqq, mlx, compressed-tensors and auto-gptq, all on the CPU. Writes the tensors of a module
`m` as each library stores them into tests/golden/quantized_by_libraries.safetensors, and with them the SHA-256 of what
the library makes of them again in float32.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy
import torch
from safetensors.torch import save_file

SHAPE = (24, 128)
Case = tuple[dict[str, torch.Tensor], dict[str, Any], torch.Tensor]
"""tensors below `m.`, quantization_config, what they mean"""


def matrix() -> torch.Tensor:
    values = numpy.random.default_rng(31).normal(0, 0.02, SHAPE)
    values[3, 5], values[7, 64:] = 0.4, 0
    return torch.from_numpy(values.astype(numpy.float32))


def bitsandbytes_4_bit(kind: str, double: bool) -> Case:
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    codes, state = quantize_4bit(matrix(), blocksize=64, quant_type=kind, compress_statistics=double)
    stored = {"weight": codes} | {f"weight.{key}": value for key, value in state.as_dict(packed=True).items()}
    config = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": kind}
    return stored, config, dequantize_4bit(codes, state)


def bitsandbytes_8_bit() -> Case:
    from bitsandbytes.functional import int8_vectorwise_dequant, int8_vectorwise_quant

    codes, scales, _ = int8_vectorwise_quant(matrix().half())
    config = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    return {"weight": codes, "SCB": scales}, config, int8_vectorwise_dequant(codes, scales)


def hqq(bits: int, axis: int) -> Case:
    from hqq.core.quantize import BaseQuantizeConfig, HQQLinear

    linear = torch.nn.Linear(SHAPE[1], SHAPE[0], bias=False)
    linear.weight.data = matrix()
    settings = BaseQuantizeConfig(nbits=bits, group_size=64, axis=axis)
    module = HQQLinear(linear, settings, compute_dtype=torch.float32, device="cpu")
    stored = {key: value for key, value in module.state_dict().items() if isinstance(value, torch.Tensor)}
    return stored, {"quant_method": "hqq", "quant_config": {}}, module.dequantize()


def mlx(bits: int) -> Case:
    import mlx.core as mx

    codes, scales, biases = mx.quantize(mx.array(matrix().numpy()).astype(mx.float16), group_size=64, bits=bits)
    meant = mx.dequantize(codes, scales.astype(mx.float32), biases.astype(mx.float32), group_size=64, bits=bits)
    arrays = {"weight": codes, "scales": scales, "biases": biases}
    stored = {name: torch.from_numpy(numpy.array(array)) for name, array in arrays.items()}
    return stored, {"group_size": 64, "bits": bits}, torch.from_numpy(numpy.array(meant))


def gptq(bits: int) -> Case:
    from auto_gptq.nn_modules.qlinear.qlinear_cuda_old import QuantLinear

    weights, size = torch.cat([matrix(), matrix()[:8]]), 32  # zeros are packed by 32 outputs
    inputs = weights.shape[1]
    linear = torch.nn.Linear(inputs, len(weights), bias=False)
    linear.weight.data = weights
    draw = numpy.random.default_rng(33)
    zeros = torch.from_numpy(draw.integers(1, 2**bits, (len(weights), inputs // size)).astype(numpy.float32))
    largest = weights.abs().reshape(len(weights), -1, size).amax(-1).clamp(1e-4)
    module = QuantLinear(bits, size, inputs, len(weights), bias=False)
    module.pack(
        linear, (largest / 2 ** (bits - 1)).half().float(), zeros, torch.arange(inputs, dtype=torch.int32) // size
    )
    stored = {name: getattr(module, name) for name in ("qweight", "qzeros", "scales", "g_idx")}
    stored = {name: value.detach().clone() for name, value in stored.items()}
    module.scales = module.scales.float()
    config = {"quant_method": "gptq", "bits": bits, "group_size": size, "desc_act": False, "sym": False}
    return stored, config, module(torch.eye(inputs)).T


def compressed(format_: str, **weights: Any) -> Case:
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

    scheme = QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(**weights))
    compressor = BaseCompressor.get_value_from_registry(format_)
    stored = compressor.compress({"weight": matrix(), **scales_of(scheme.weights)}, scheme)
    meant = nvfp4_in_float32(stored, scheme) if "nvfp4" in format_ else compressor.decompress(stored, scheme)["weight"]
    group = {"targets": ["Linear"], "weights": json.loads(scheme.weights.model_dump_json())}
    config = {"quant_method": "compressed-tensors", "format": format_, "config_groups": {"group_0": group}}
    return stored, config | {"version": version("compressed-tensors")}, meant


def nvfp4_in_float32(stored: dict[str, torch.Tensor], scheme: Any) -> torch.Tensor:
    """Return what `decompress` returns, which works in bfloat16, without that rounding."""
    from compressed_tensors.compressors.nvfp4.helpers import unpack_fp4_from_uint8
    from compressed_tensors.quantization.lifecycle.forward import dequantize

    codes = unpack_fp4_from_uint8(stored["weight_packed"], *SHAPE, dtype=torch.float32)
    scale, factor = stored["weight_scale"].float(), stored["weight_global_scale"]
    return dequantize(codes, scale, args=scheme.weights, global_scale=factor, dtype=torch.float32)


def scales_of(weights: Any) -> dict[str, torch.Tensor]:
    """Return scales that fit the largest weight of each group, and zero points where the scheme has some."""
    size = weights.group_size or SHAPE[1]
    largest = matrix().abs().reshape(SHAPE[0], -1, size).amax(-1).clamp(1e-4)
    if weights.type == "float" and weights.num_bits == 4:
        scales = {"weight_scale": largest / 6}
        return {"weight_scale": 2.0 ** torch.floor(torch.log2(largest / 6))} if size == 32 else global_scale(scales)
    most = 448 if weights.type == "float" else 2 ** (weights.num_bits - 1) - 1
    scales = {"weight_scale": largest / most}
    if not weights.symmetric:
        zeros = torch.from_numpy(numpy.random.default_rng(32).integers(-2, 2, tuple(largest.shape)).astype(numpy.int8))
        scales["weight_zero_point"] = zeros
    return scales


def global_scale(scales: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    factor = 448 / scales["weight_scale"].max().reshape(1)
    return {
        "weight_scale": (scales["weight_scale"] * factor).to(torch.float8_e4m3fn).float(),
        "weight_global_scale": factor,
    }


def integers(bits: int, symmetric: bool) -> Case:
    return compressed("pack-quantized", num_bits=bits, type="int", strategy="group", group_size=32, symmetric=symmetric)


def cases() -> Iterator[tuple[str, Callable[[], Case]]]:
    for kind in ("nf4", "fp4"):
        for double in (False, True):
            yield f"bitsandbytes {kind}{', double' if double else ''}", partial(bitsandbytes_4_bit, kind, double)
    yield "bitsandbytes int8", bitsandbytes_8_bit
    for bits in (1, 2, 3, 4, 8):
        for axis in (0, 1):
            yield f"hqq {bits} bits, axis {axis}", partial(hqq, bits, axis)
    for bits in (2, 3, 4, 5, 6, 8):
        yield f"mlx {bits} bits", partial(mlx, bits)
    for bits in (2, 3, 4, 8):
        yield f"auto-gptq {bits} bits", partial(gptq, bits)
    for bits in range(2, 9):
        yield f"compressed-tensors int{bits}", partial(integers, bits, True)
        yield f"compressed-tensors int{bits}, asymmetric", partial(integers, bits, False)
    rows = {"num_bits": 8, "strategy": "channel"}
    yield "compressed-tensors int8, rows", partial(compressed, "int-quantized", type="int", **rows)
    yield "compressed-tensors fp8, rows", partial(compressed, "float-quantized", type="float", **rows)
    fp4 = {"num_bits": 4, "type": "float"}
    nvfp4 = {"strategy": "tensor_group", "group_size": 16}
    yield "compressed-tensors nvfp4", partial(compressed, "nvfp4-pack-quantized", **fp4, **nvfp4)
    yield (
        "compressed-tensors mxfp4",
        partial(compressed, "mxfp4-pack-quantized", **fp4, strategy="group", group_size=32),
    )


def main() -> None:
    """Write all cases into one file."""
    tensors: dict[str, torch.Tensor] = {}
    configs: dict[str, str] = {}
    for name, make in cases():
        stored, config, meant = make()
        tensors |= {f"{name}/m.{key}": value.detach().contiguous().clone() for key, value in stored.items()}
        values = meant.detach().float().contiguous().numpy() + 0  # no zero is negative
        digest = hashlib.sha256(values.astype("<f4").tobytes()).hexdigest()
        configs[name] = json.dumps({"quantization_config": config, "sha256": digest})
    golden = Path(__file__).parents[1] / "golden" / "quantized_by_libraries.safetensors"
    save_file(tensors, golden, metadata=configs)


if __name__ == "__main__":
    main()
