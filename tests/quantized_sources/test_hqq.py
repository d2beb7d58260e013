import numpy
import pytest
from packed_checkpoint import named, open_packed, random, values_of

from toolkit.errors import CheckpointError

SETTINGS = {"quant_method": "hqq", "quant_config": {}, "skip_modules": ["lm_head"]}
PARTS = {8: 1, 4: 2, 3: 10, 2: 4, 1: 8}


def scalar(value, dtype=numpy.int32):
    return numpy.array(value, dtype=dtype)


def checkpoint(bits=4, axis=1, shape=(6, 64), size=32):
    """Return (tensors, weights): the grouped matrix is cut into parts that lie in the bits of a byte, the first highest."""
    draw = random(19)
    count = shape[0] * shape[1]
    grouped = (count // size, size) if axis == 1 else (size, count // size)
    codes = draw.integers(0, 2**bits, grouped)
    of_groups = (grouped[0], 1) if axis == 1 else (1, grouped[1])
    scale = draw.uniform(0.01, 0.1, of_groups).astype(numpy.float16)
    zero = draw.uniform(0, 2**bits, of_groups).astype(numpy.float16)
    step = -(-grouped[0] // PARTS[bits])
    padded = numpy.zeros((step * PARTS[bits], grouped[1]), dtype=numpy.int32)
    padded[: grouped[0]] = codes
    packed = numpy.zeros((step, grouped[1]), dtype=numpy.int32)
    for part in range(PARTS[bits]):
        packed |= padded[part * step : (part + 1) * step] << bits * (PARTS[bits] - 1 - part)
    tensors = named(
        W_q=packed if bits == 3 else packed.astype(numpy.uint8),
        scale=scale,
        zero=zero,
        nbits=scalar(bits),
        axis=scalar(axis),
        group_size=scalar(size),
        shape=numpy.array(shape),
        view_as_float=scalar(0, numpy.uint8),
        encoded_state_dict=scalar(1, numpy.uint8),
        packing=numpy.frombuffer(b"4bit_u8", numpy.uint8),
    )
    weights = (codes.astype(numpy.float32) - zero.astype(numpy.float32)) * scale.astype(numpy.float32)
    return tensors, weights.reshape(shape)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
def test_groups_on_either_axis_are_read_by_rows(bits, axis, tmp_path):
    tensors, weights = checkpoint(bits, axis)
    opened, _ = open_packed(tmp_path, tensors, SETTINGS)
    assert list(opened.tensors) == ["m.weight"]
    for step in (1, 4):
        assert numpy.array_equal(values_of(opened.tensors["m.weight"], step), weights)


@pytest.mark.parametrize("missing", ["scale", "zero", "shape", "nbits", "axis"])
def test_an_incomplete_set_names_its_missing_companion(missing, tmp_path):
    tensors, _ = checkpoint()
    del tensors[f"m.{missing}"]
    with pytest.raises(
        CheckpointError, match=rf"m\.W_q is quantized \(hqq\), but its companion m\.{missing} is missing"
    ):
        open_packed(tmp_path, tensors, SETTINGS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nbits": scalar(5)}, r"hqq quantization with 5 bits on axis 1 \(first: m\)"),
        ({"quant_zero": scalar(1, numpy.uint8)}, "with 4 bits on axis 1 quant_zero"),
        ({"group_size": scalar(48)}, r"m\.W_q has shape|not a whole number of groups"),
        ({"shape": numpy.array([6, 65])}, "not a whole number of groups of 32"),
        ({"shape": numpy.array([-6, -64])}, "not a whole number of groups of 32"),
        ({"nbits": scalar(4, numpy.float32)}, r"m\.nbits is F32 \[\], expected one integer"),
    ],
)
def test_layouts_that_are_not_read_are_refused(changes, message, tmp_path):
    with pytest.raises(CheckpointError, match=message):
        open_packed(tmp_path, checkpoint()[0] | named(**changes), SETTINGS)
