"""A model with packed matrices becomes the very file that its dequantized twin becomes, and llama.cpp computes with it."""

import json
import re
from functools import partial

import numpy
import pytest
from logits import llama_logits, token_ids
from packed_checkpoint import named, random
from quantized_sources import test_awq as awq
from quantized_sources import test_bitsandbytes as bitsandbytes
from quantized_sources import test_compressed_tensors as compressed
from quantized_sources import test_fp8 as fp8
from quantized_sources import test_gptq as gptq
from quantized_sources import test_hqq as hqq
from quantized_sources import test_other_formats as others
from twins import changed_case, convert_edited

from toolkit.conversion.tensor_plan import plan_conversion
from toolkit.quant_profile import load_profile
from toolkit.sources.hf_source import source_from_checkpoint

MODULES = ("model.layers.0.self_attn.k_proj", "model.layers.1.mlp.up_proj")
"""One whose rows are permuted on the way, and one whose rows are not."""


def fp8_scaled(shape, scales, name="weight_scale", spread=None):
    """Return FP8 codes with scales of a shape that numpy spreads over them, or that `spread` does."""
    codes, factors = fp8.codes_of(shape), random(8).uniform(0.001, 0.01, scales).astype(numpy.float32)
    weights = fp8.decoded(codes) * (spread(factors) if spread else factors)
    return {"m.weight": ("F8_E4M3", codes), f"m.{name}": ("F32", factors)}, weights.astype(numpy.float32)


def in_blocks(shape):
    spread = lambda scales: numpy.repeat(numpy.repeat(scales, 32, 0), 32, 1)[: shape[0], : shape[1]]  # noqa: E731
    return fp8_scaled(shape, (-(-shape[0] // 32), -(-shape[1] // 32)), "weight_scale_inv", spread)


def int8_rows(shape):
    codes = random(5).integers(-127, 128, shape, dtype=numpy.int8)
    scales = random(6).uniform(0.1, 2, shape[0]).astype(numpy.float32)
    weights = codes.astype(numpy.float32) * scales[:, None] * numpy.float32(7.874015718698502e-3)
    return named(weight=codes, SCB=scales), weights


def int8_channels(shape):
    codes = random(12).integers(-128, 128, shape, dtype=numpy.int8)
    scales = random(13).uniform(0.001, 0.01, (shape[0], 1)).astype(numpy.float32)
    return named(weight=codes, weight_scale=scales), codes.astype(numpy.float32) * scales


INT4 = compressed.INT4
CHANNELS = {"num_bits": 8, "type": "int", "strategy": "channel", "symmetric": True}
FORMATS = {
    **{
        f"gptq, {bits} bits{', desc_act' if order else ''}": (
            partial(lambda bits, order, shape: gptq.checkpoint(bits, order, shape=shape), bits, order),
            gptq.settings(bits=bits, desc_act=order),
        )
        for bits in (2, 3, 4, 8)
        for order in (False, True)
    },
    "gptq, symmetric": (lambda shape: gptq.checkpoint(zeros=7, shape=shape), gptq.settings(sym=True)),
    "gptq v2": (lambda shape: gptq.checkpoint(zero_offset=0, shape=shape), gptq.settings(checkpoint_format="gptq_v2")),
    "awq": (awq.checkpoint, awq.settings()),
    "bitsandbytes fp4": (bitsandbytes.four_bit, bitsandbytes.FOUR_BIT),
    "bitsandbytes fp4, double": (partial(bitsandbytes.four_bit, nested=True), bitsandbytes.FOUR_BIT),
    "bitsandbytes nf4, double": (partial(bitsandbytes.four_bit, nested=True, kind="nf4"), bitsandbytes.FOUR_BIT),
    "bitsandbytes int8": (int8_rows, bitsandbytes.EIGHT_BIT),
    "fp8, one scale": (lambda shape: fp8_scaled(shape, ()), fp8.PLAIN),
    "fp8, rows": (lambda shape: fp8_scaled(shape, (shape[0], 1)), fp8.PLAIN),
    "fp8, blocks": (in_blocks, fp8.BLOCKS | {"weight_block_size": [32, 32]}),
    "compressed int4": (
        lambda shape: compressed.packed(*shape, symmetric=True),
        compressed.settings(INT4),
    ),
    "compressed int4, asymmetric": (
        lambda shape: compressed.packed(*shape),
        compressed.settings(INT4 | {"symmetric": False}),
    ),
    "compressed int8": (int8_channels, compressed.settings(CHANNELS, "int-quantized")),
    "compressed fp8": (
        lambda shape: fp8_scaled(shape, (shape[0], 1)),
        compressed.settings({"num_bits": 8, "type": "float", "strategy": "channel"}, "float-quantized"),
    ),
    "compressed nvfp4": (compressed.nvfp4, compressed.settings(compressed.NVFP4, "nvfp4-pack-quantized")),
    "nvfp4": (
        lambda shape: others.nvfp4(*shape),
        {"quant_method": "modelopt", "quant_algo": "NVFP4", "group_size": 16},
    ),
    "hqq": (lambda shape: hqq.checkpoint(shape=shape), hqq.SETTINGS),
    **{
        f"mlx, {bits} bits": (
            partial(lambda bits, shape: others.mlx(bits, rows=shape[0], columns=shape[1]), bits),
            {"group_size": 32, "bits": bits},
        )
        for bits in (2, 3, 4, 5, 6, 8)
    },
}
"""Name -> (function from a shape to the tensors of module `m` and the weights by definition, quantization_config)"""


@pytest.mark.parametrize("name", FORMATS)
def test_the_file_is_that_of_the_dequantized_model(name, tmp_path):
    make, settings = FORMATS[name]

    def pack(checkpoint, *, dequantized):
        for module in MODULES:
            packed, weights = make(checkpoint.tensors.pop(f"{module}.weight")[1].shape)
            if dequantized:
                checkpoint.tensors[f"{module}.weight"] = ("F32", weights)
            else:
                checkpoint.tensors |= {module + key.removeprefix("m"): value for key, value in packed.items()}
                checkpoint.config["quantization_config"] = json.loads(json.dumps(settings))

    ours, twin = (
        convert_edited(changed_case("llama2", tmp_path / str(plain), partial(pack, dequantized=plain)), "f32")
        for plain in (False, True)
    )
    assert ours.read_bytes() == twin.read_bytes()
    logits = llama_logits(ours, False, token_ids())
    assert numpy.isfinite(logits).all()
    assert numpy.ptp(logits) > 0


EXPERT, STACKED = "model.layers.0.mlp.experts.", "blk.0.ffn_up_exps.weight"


def scaled(packed, factor):
    """Return packed tensors whose weights are a power of two times as large."""
    return {
        key: (dtype, bits * bits.dtype.type(factor) if dtype in ("F16", "F32") else bits)
        for key, (dtype, bits) in packed.items()
    }


@pytest.mark.parametrize(("name", "kept"), [("awq", "Q4_1"), ("compressed int4", "Q4_0"), ("fp8, rows", "F16")])
def test_experts_that_are_packed_one_by_one_are_stacked_in_their_order(name, kept, tmp_path):
    make, settings = FORMATS[name]

    def pack(checkpoint, *, dequantized):
        modules = [one.removesuffix(".weight") for one in checkpoint.tensors if re.match(rf"{EXPERT}\d+\.up", one)]
        for number, module in enumerate(modules):
            factor = 2.0 ** (number % 8 - 4)
            packed, weights = make(checkpoint.tensors.pop(f"{module}.weight")[1].shape)
            if dequantized:
                checkpoint.tensors[f"{module}.weight"] = ("F32", weights * numpy.float32(factor))
            else:
                own = scaled(packed, factor)
                checkpoint.tensors |= {module + key.removeprefix("m"): value for key, value in own.items()}
                checkpoint.config["quantization_config"] = json.loads(json.dumps(settings))

    ours, twin = (
        changed_case("qwen3_moe", tmp_path / str(plain), partial(pack, dequantized=plain)) for plain in (False, True)
    )
    assert convert_edited(ours, "f32").read_bytes() == convert_edited(twin, "f32").read_bytes()
    plan = plan_conversion(source_from_checkpoint(ours), load_profile("keep"))
    assert next(tensor.type.name for tensor in plan.tensors if tensor.name == STACKED) == kept
