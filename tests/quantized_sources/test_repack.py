"""Groups that GGUF has a block for: equal integers, equal scales, weights as far off as one float16 rounding of a minimum."""

import numpy
import pytest
from compare import KIT
from packed_checkpoint import named, packed_bits, random, write_packed

from toolkit.checkpoint.checkpoint import open_checkpoint
from toolkit.gguf.rows import generated, row_count
from toolkit.llama.quantizer import to_float32
from toolkit.quantized_sources.quantized_format import DequantizedTensor, Grid
from toolkit.quantized_sources.registry import decode_checkpoint
from toolkit.quantized_sources.repack import repacked

CHECKPOINTS = KIT / "quantized" / "checkpoints"
DOWN = "model.layers.0.mlp.down_proj.weight"
SHIFTS_OF_AWQ = (0, 16, 4, 20, 8, 24, 12, 28)


def tensors_of(directory):
    return decode_checkpoint(open_checkpoint(directory))[0].tensors


def read(rows, step=7):
    """Return the stored bytes and the float32 weights of all rows, read a few at a time."""
    count = row_count(rows.shape)
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
    for tensor in (one for name, one in tensors_of(CHECKPOINTS / case).items() if name.endswith("_proj.weight")):
        kept = repacked(tensor)
        assert kept.rows.type.name == type_
        found = float(numpy.abs(read(kept.rows)[1] - read(tensor.rows())[1]).max())
        assert found == pytest.approx(kept.worst_difference, rel=0.01)
        assert found == 0 if type_ != "Q4_1" else 0 < found < 2**-11 * 0.02 * 16


def parts_of(blocks, header_bytes):
    """Return the float16 bits [rows, blocks, numbers] and the codes [rows, blocks, 32] of blocks of nibbles."""
    header, nibbles = blocks[..., :header_bytes], blocks[..., header_bytes:]
    codes = numpy.concatenate([nibbles & 15, nibbles >> 4], axis=-1)
    return numpy.ascontiguousarray(header).view("<u2"), codes


def words(tensor):
    return tensor.data.view("<u4").reshape(tensor.shape)


def float16_bits(tensor):
    return tensor.data.view("<u2").reshape(tensor.shape)


def in_groups(codes):
    return codes.reshape(len(codes), -1, 32)


def from_compressed(stored):
    """Return codes [outputs, inputs] and scales [outputs, groups]."""
    packed = words(stored[f"{DOWN}_packed"])
    codes = (packed[..., None] >> numpy.arange(0, 32, 4, dtype=numpy.uint32) & 15).reshape(len(packed), -1)
    return codes, float16_bits(stored[f"{DOWN}_scale"])


def from_gptq(stored):
    packed = words(stored[DOWN.replace("weight", "qweight")])
    codes = packed[:, None, :] >> numpy.arange(0, 32, 4, dtype=numpy.uint32)[None, :, None] & 15
    return codes.reshape(-1, packed.shape[1]).T, float16_bits(stored[DOWN.replace("weight", "scales")]).T


def from_awq(stored):
    packed = words(stored[DOWN.replace("weight", "qweight")])
    codes = packed[..., None] >> numpy.array(SHIFTS_OF_AWQ, dtype=numpy.uint32) & 15
    return codes.reshape(len(packed), -1).T, float16_bits(stored[DOWN.replace("weight", "scales")]).T


@pytest.mark.parametrize(
    ("case", "unpack", "numbers"),
    [
        ("compressed_int4", from_compressed, 1),
        ("compressed_int4_asym", from_compressed, 2),
        ("gptq_4bit", from_gptq, 1),
        ("awq_4bit", from_awq, 2),
    ],
)
def test_integers_and_scales_are_equal_bit_for_bit(case, unpack, numbers):
    codes, scales = unpack(open_checkpoint(CHECKPOINTS / case).tensors)
    kept = repacked(tensors_of(CHECKPOINTS / case)[DOWN])
    blocks = read(kept.rows)[0].reshape(len(codes), -1, 16 + 2 * numbers)
    found_numbers, found_codes = parts_of(blocks, 2 * numbers)
    assert numpy.array_equal(found_codes, in_groups(codes))
    assert numpy.array_equal(found_numbers[..., 0], numpy.repeat(scales, 4, axis=1))


def test_integers_of_8_bits_are_equal_with_their_zero_taken_off():
    stored = open_checkpoint(CHECKPOINTS / "gptq_8bit").tensors
    packed = words(stored[DOWN.replace("weight", "qweight")])
    codes = (packed[:, None, :] >> numpy.arange(0, 32, 8, dtype=numpy.uint32)[None, :, None] & 255).reshape(
        -1, packed.shape[1]
    )
    blocks = read(repacked(tensors_of(CHECKPOINTS / "gptq_8bit")[DOWN]).rows)[0].reshape(codes.shape[1], -1, 34)
    signed = numpy.ascontiguousarray(blocks[..., 2:]).view(numpy.int8)
    assert numpy.array_equal(signed, in_groups(codes.T.astype(numpy.int16) - 128))


def mlx(directory, bits, scales, biases):
    """Write a module of MLX with random codes [6, 64], and return the tensor and its codes."""
    codes = random(21).integers(0, 2**bits, (6, 64))
    tensors = named(weight=packed_bits(codes, bits), scales=scales, biases=biases)
    write_packed(directory, tensors, {"group_size": 32, "bits": bits})
    return tensors_of(directory)["m.weight"], codes


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_affine_groups_of_mlx_are_kept_without_any_difference(bits, tmp_path):
    draw = random(22)
    scales, biases = (draw.uniform(-1, 1, (6, 2)).astype(numpy.float16) for _ in range(2))
    tensor, codes = mlx(tmp_path, bits, scales, biases)
    kept = repacked(tensor)
    assert (kept.rows.type.name, kept.worst_difference) == ("Q4_1", 0)
    numbers, found = parts_of(read(kept.rows)[0].reshape(6, 2, 20), 4)
    assert numpy.array_equal(found, in_groups(codes))
    assert numpy.array_equal(numbers, numpy.stack([scales, biases], axis=-1).view("<u2"))
    assert numpy.array_equal(read(kept.rows)[1], read(tensor.rows())[1])


def test_5_bits_of_mlx_are_kept_with_their_fifth_bits_together(tmp_path):
    draw = random(23)
    scales, biases = (draw.uniform(-1, 1, (6, 2)).astype(numpy.float16) for _ in range(2))
    tensor, codes = mlx(tmp_path, 5, scales, biases)
    kept = repacked(tensor)
    assert (kept.rows.type.name, kept.worst_difference) == ("Q5_1", 0)
    blocks = read(kept.rows)[0].reshape(6, 2, 24)
    fifth = numpy.ascontiguousarray(blocks[..., 4:8]).view("<u4") >> numpy.arange(32, dtype=numpy.uint32) & 1
    _, nibbles = parts_of(numpy.concatenate([blocks[..., :4], blocks[..., 8:]], axis=-1), 4)
    assert numpy.array_equal(nibbles + 16 * fifth, in_groups(codes))
    assert numpy.array_equal(read(kept.rows)[1], read(tensor.rows())[1])


@pytest.mark.parametrize("bits", [6, 8])
def test_more_bits_of_mlx_than_gguf_has_with_a_minimum_are_not_kept(bits, tmp_path):
    ones = numpy.ones((6, 2), dtype=numpy.float16)
    assert repacked(mlx(tmp_path, bits, ones, ones)[0]) is None


@pytest.mark.parametrize("case", ["gptq_4bit_desc_act", "bnb_nf4", "fp8_block", "compressed_fp8_channel"])
def test_a_grid_that_gguf_lacks_has_no_blocks(case):
    assert repacked(tensors_of(CHECKPOINTS / case)[DOWN]) is None


@pytest.mark.parametrize("scale", [0.1, 1e9, 0.0])
def test_scales_that_float16_cannot_hold_or_that_tell_nothing_are_not_kept(scale, tmp_path):
    ones = numpy.ones((6, 2), dtype=numpy.float32)
    assert repacked(mlx(tmp_path, 4, ones * numpy.float32(scale), ones)[0]) is None


def test_minimums_that_float16_cannot_hold_are_not_kept(tmp_path):
    ones = numpy.ones((6, 2), dtype=numpy.float32)
    assert repacked(mlx(tmp_path, 4, ones, ones * numpy.float32(1e6))[0]) is None


def tensor_on(bits, group_size, columns, scale=0.5, zero=0):
    """Return a tensor of two rows of codes in groups with one scale and zero."""
    groups = -(-columns // group_size)
    grid = Grid(
        bits,
        group_size,
        codes=lambda start, stop: numpy.ones((stop - start, columns), numpy.uint8),
        scales=lambda start, stop: numpy.full((stop - start, groups), scale, numpy.float32),
        zeros=lambda start, stop: numpy.full((stop - start, groups), zero, numpy.int16),
    )
    return DequantizedTensor("a", generated(numpy.zeros((2, columns))), (), grid)


@pytest.mark.parametrize(
    ("tensor", "type_"),
    [
        (tensor_on(8, 64, 128, zero=128), "Q8_0"),
        (tensor_on(8, 64, 128, zero=127), None),
        (tensor_on(4, 64, 128, zero=8), "Q4_0"),
        (tensor_on(4, 64, 128, zero=9), "Q4_1"),
        (tensor_on(4, 32, 96, zero=8), "Q4_0"),
        (tensor_on(4, 48, 96, zero=8), None),
        (tensor_on(4, 64, 80, zero=8), None),
        (tensor_on(4, 64, 128, scale=1 + 2.0**-11, zero=8), None),
        (tensor_on(4, 64, 128, scale=1 + 2.0**-10, zero=8), "Q4_0"),
        (tensor_on(4, 64, 128, scale=0, zero=8), None),
    ],
)
def test_the_grid_says_whether_ggufs_blocks_hold_it(tensor, type_):
    kept = repacked(tensor)
    assert (kept and kept.rows.type.name) == type_
