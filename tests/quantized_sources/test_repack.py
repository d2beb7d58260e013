"""Groups that GGUF has a block for: equal integers, equal scales, weights as far off as one float16 rounding of a minimum."""

import numpy
import pytest
from compare import KIT
from packed_checkpoint import named, packed_bits, random, write_packed

from toolkit.checkpoint import open_checkpoint
from toolkit.convert import write_gguf
from toolkit.gguf_reader import read_gguf
from toolkit.hf_source import source_from_checkpoint
from toolkit.quant_profile import load_profile
from toolkit.quantized_sources import open_quantized
from toolkit.quantizer import to_float32
from toolkit.rows import row_count
from toolkit.tensor_plan import plan_conversion

CHECKPOINTS = KIT / "quantized" / "checkpoints"
DOWN = "model.layers.0.mlp.down_proj.weight"


def read(tensor, step=7):
    rows, count = tensor.rows(), row_count(tensor.shape)
    stored = numpy.concatenate([rows.read_rows(start, min(start + step, count)) for start in range(0, count, step)])
    return stored, to_float32(stored, rows.type)


@pytest.mark.parametrize(
    ("case", "type_"),
    [
        ("gptq_4bit", "Q4_0"),
        ("gptq_8bit", "Q8_0"),
        ("awq_4bit", "Q4_1"),
        ("compressed_int4", "Q4_0"),
        ("compressed_int4_asym", "Q4_1"),
    ],
)
def test_the_blocks_mean_what_the_source_means(case, type_):
    checkpoint = open_checkpoint(CHECKPOINTS / case)
    plain, kept = (open_quantized(checkpoint, keep=keep)[0] for keep in (False, True))
    worst = 0.0
    for name in (name for name, tensor in plain.tensors.items() if name.endswith("_proj.weight")):
        assert kept.tensors[name].dtype == type_
        difference = numpy.abs(read(kept.tensors[name])[1] - read(plain.tensors[name])[1])
        worst = max(worst, float(difference.max()))
    assert worst == 0 if type_ != "Q4_1" else 0 < worst < 2**-11 * 0.02 * 16
    assert any("kept 7 of 7 tensors in their own grid" in note for note in kept.notes)


def test_nothing_is_said_of_a_second_rounding_where_there_is_none():
    assert open_quantized(open_checkpoint(CHECKPOINTS / "gptq_4bit"), keep=True)[1] == ()


def test_integers_and_scales_are_equal_bit_for_bit():
    tensors = open_checkpoint(CHECKPOINTS / "compressed_int4").tensors
    words = tensors[f"{DOWN}_packed"].data.view("<u4")
    codes = (words[:, None] >> numpy.arange(0, 32, 4, dtype=numpy.uint32) & 15).reshape(256, -1, 32)
    scales = tensors[f"{DOWN}_scale"].data.view("<u2").reshape(256, -1)
    kept, _ = open_quantized(open_checkpoint(CHECKPOINTS / "compressed_int4"), keep=True)
    blocks = read(kept.tensors[DOWN])[0].reshape(256, -1, 18)
    assert numpy.array_equal(
        numpy.ascontiguousarray(blocks[..., :2]).view("<u2")[..., 0], numpy.repeat(scales, 4, axis=1)
    )
    assert numpy.array_equal(blocks[..., 2:] & 15, codes[..., :16])
    assert numpy.array_equal(blocks[..., 2:] >> 4, codes[..., 16:])


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_affine_groups_of_mlx_are_kept_without_any_difference(bits, tmp_path):
    draw = random(21)
    scales, biases = (draw.uniform(-1, 1, (6, 2)).astype(numpy.float16) for _ in range(2))
    tensors = named(weight=packed_bits(draw.integers(0, 2**bits, (6, 64)), bits), scales=scales, biases=biases)
    checkpoint = open_checkpoint(write_packed(tmp_path, tensors, {"group_size": 32, "bits": bits}))
    plain, kept = (open_quantized(checkpoint, keep=keep)[0].tensors["m.weight"] for keep in (False, True))
    assert kept.dtype == "Q4_1"
    assert numpy.array_equal(read(kept)[1], read(plain)[1])


@pytest.mark.parametrize("case", ["gptq_4bit_desc_act", "bnb_nf4", "fp8_block", "compressed_fp8_channel"])
def test_a_grid_that_gguf_lacks_is_dequantized_with_the_warning(case):
    opened, warnings = open_quantized(open_checkpoint(CHECKPOINTS / case), keep=True)
    assert opened.tensors[DOWN].dtype == "F32"
    assert "a second rounding" in warnings[0]


def test_scales_that_float16_cannot_hold_are_not_kept(tmp_path):
    words = named(weight=packed_bits(random(22).integers(0, 16, (6, 64)), 4))
    ones = numpy.ones((6, 2), dtype=numpy.float32)
    tensors = words | named(scales=ones * numpy.float32(0.1), biases=ones)
    checkpoint = open_checkpoint(write_packed(tmp_path, tensors, {"group_size": 32, "bits": 4}))
    assert open_quantized(checkpoint, keep=True)[0].tensors["m.weight"].dtype == "F32"


@pytest.mark.parametrize(("case", "profile"), [("gptq_4bit", "q4_0"), ("awq_4bit", "q4_1"), ("gptq_8bit", "q8_0")])
def test_a_file_of_the_type_of_the_grid_holds_the_blocks_as_they_are(case, profile, tmp_path):
    source = source_from_checkpoint(CHECKPOINTS / case, keep_grids=True)
    write_gguf(plan_conversion(source, load_profile(profile)), tmp_path / "out.gguf")
    written = read_gguf(tmp_path / "out.gguf").tensors
    kept = [tensor for tensor in source.tensors if tensor.source.type.name.lower() == profile]
    assert len(kept) == 7
    for tensor in kept:
        rows = row_count(tensor.shape)
        assert numpy.array_equal(written[tensor.name].read_rows(0, rows), tensor.source.read_rows(0, rows))
