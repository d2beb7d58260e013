"""Quantize a matrix with torchao: `PYTHON tests/quantized_sources/reference_of_torchao.py`.

PYTHON has torch, torchao and safetensors, on the CPU. Writes tests/golden/torchao.safetensors as torchao itself lays a
checkpoint out, a module for each case, and torchao.json: the SHA-256 of what it makes of each weight again in float32.
"""

import hashlib
import json
from functools import partial
from pathlib import Path

import numpy
import torch
from safetensors.torch import save_file
from torchao.prototype.safetensors.safetensors_support import flatten_tensor_state_dict
from torchao.quantization import Float8Tensor, Int8Tensor, IntxUnpackedToInt8Tensor, MappingType, PerRow, PerTensor
from torchao.quantization.granularity import PerBlock

GOLDEN = Path(__file__).parents[1] / "golden"
SHAPE = (24, 128)
float8 = Float8Tensor.from_hp
int8 = Int8Tensor.from_hp


def intx(bits: int, block: tuple[int, int], mapping: MappingType, dtype: torch.dtype = torch.float32):
    target = getattr(torch, f"int{bits}")
    return lambda weight: IntxUnpackedToInt8Tensor.from_hp(weight.to(dtype), block, target, mapping_type=mapping)


CASES = {
    "float8 by rows": partial(float8, granularity=PerRow()),
    "float8 of the tensor": partial(float8, granularity=PerTensor()),
    "float8 by blocks": partial(float8, granularity=PerBlock([8, 32])),
    "float8 e5m2": partial(float8, granularity=PerRow(), float8_dtype=torch.float8_e5m2),
    "int8 by rows": partial(int8, granularity=PerRow()),
    "int8 with zero points": partial(int8, granularity=PerRow(), mapping_type=MappingType.ASYMMETRIC),
    "intx 4 bits": intx(4, (1, 32), MappingType.SYMMETRIC, torch.float16),
    "intx 4 bits, bfloat16": intx(4, (1, 64), MappingType.SYMMETRIC, torch.bfloat16),
    "intx 4 bits with zero points": intx(4, (1, 32), MappingType.ASYMMETRIC, torch.float16),
    "intx 3 bits": intx(3, (1, 64), MappingType.ASYMMETRIC, torch.float16),
    "intx 8 bits by rows": intx(8, (1, 128), MappingType.SYMMETRIC, torch.float16),
}


def matrix() -> torch.Tensor:
    values = numpy.random.default_rng(31).normal(0, 0.02, SHAPE)
    values[3, 5], values[7, 64:] = 0.4, 0
    return torch.from_numpy(values.astype(numpy.float32))


def meant(tensor: torch.Tensor) -> torch.Tensor:
    """Return what a quantized tensor means, its scales widened to float32 where they are narrower."""
    return (tensor.to(torch.float32) if isinstance(tensor, IntxUnpackedToInt8Tensor) else tensor).dequantize()


def main() -> None:
    quantized = {f"{name}.weight": quantize(matrix()) for name, quantize in CASES.items()}
    tensors, metadata = flatten_tensor_state_dict(quantized | {"plain.weight": matrix()[:2]})
    save_file(tensors, GOLDEN / "torchao.safetensors", metadata={"format": "pt", **metadata})
    digests = {
        name.removesuffix(".weight"): hashlib.sha256((meant(tensor) + 0).contiguous().numpy().tobytes()).hexdigest()
        for name, tensor in quantized.items()
    }
    (GOLDEN / "torchao.json").write_text(json.dumps(digests, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
