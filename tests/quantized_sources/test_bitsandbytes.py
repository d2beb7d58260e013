import json

import numpy
import pytest
from packed_checkpoint import named, open_packed, random, values_of

from toolkit.errors import CheckpointError

FP4_LEVELS = numpy.array(
    [0, 0.0052083333, 0.66666667, 1, 0.33333333, 0.5, 0.16666667, 0.25,
     0, -0.0052083333, -0.66666667, -1, -0.33333333, -0.5, -0.16666667, -0.25], dtype=numpy.float32,
)  # fmt: skip
NF4_LEVELS = numpy.array(
    [-1, -0.6961928, -0.52507305, -0.3949175, -0.28444138, -0.18477343, -0.09105004, 0,
     0.0795803, 0.1609302, 0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1], dtype=numpy.float32,
)  # fmt: skip
LEVELS = {"fp4": FP4_LEVELS, "nf4": NF4_LEVELS}
FOUR_BIT = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "fp4"}
EIGHT_BIT = {"quant_method": "bitsandbytes", "load_in_8bit": True}


def four_bit(shape=(6, 65), blocksize=64, nested=False, kind="fp4"):
    """Return (tensors, weights); rows of 65 start in the middle of bytes and of blocks."""
    draw = random(4)
    count = shape[0] * shape[1]
    codes = draw.integers(0, 16, count)
    n_blocks = -(-count // blocksize)
    state = {"quant_type": kind, "blocksize": blocksize, "dtype": "float16", "shape": list(shape)}
    if nested:
        absmax, levels = (
            draw.integers(0, 256, n_blocks, dtype=numpy.uint8),
            numpy.linspace(-1, 1, 256, dtype=numpy.float32),
        )
        outer = draw.uniform(0.02, 0.04, -(-n_blocks // 4)).astype(numpy.float32)
        scales = levels[absmax] * outer[numpy.arange(n_blocks) // 4] + numpy.float32(0.3)
        extra = {"weight__nested_absmax": outer, "weight__nested_quant_map": levels}
        state |= {"nested_blocksize": 4, "nested_dtype": "float32", "nested_offset": float(numpy.float32(0.3))}
    else:
        absmax = scales = draw.uniform(0.02, 0.04, n_blocks).astype(numpy.float32)
        extra = {}
    weights = [LEVELS[kind][code] * scales[index // blocksize] for index, code in enumerate(codes)]
    padded = numpy.append(codes, numpy.zeros(count % 2, dtype=codes.dtype)).reshape(-1, 2)
    tensors = named(
        weight=(padded[:, 0] << 4 | padded[:, 1]).astype(numpy.uint8).reshape(-1, 1),
        weight__absmax=absmax,
        weight__quant_map=LEVELS[kind],
        weight__quant_state__bitsandbytes=numpy.frombuffer(json.dumps(state).encode(), numpy.uint8),
        **extra,
    )
    tensors[f"m.weight.quant_state.bitsandbytes__{kind}"] = tensors.pop("m.weight.quant_state.bitsandbytes")
    return tensors, numpy.array(weights, dtype=numpy.float32).reshape(shape)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("kind", LEVELS)
def test_4_bits_with_plain_and_with_quantized_scales(kind, nested, tmp_path):
    tensors, weights = four_bit(nested=nested, kind=kind)
    opened, _ = open_packed(tmp_path, tensors, FOUR_BIT)
    assert list(opened.tensors) == ["m.weight"]
    for step in (1, 4, 6):
        assert numpy.array_equal(values_of(opened.tensors["m.weight"], step), weights)


def test_codes_stored_as_another_type_are_the_same_bytes(tmp_path):
    tensors, weights = four_bit(shape=(4, 64))
    tensors["m.weight"] = ("BF16", tensors["m.weight"][1].reshape(-1).view("<u2").reshape(-1, 1))
    opened, _ = open_packed(tmp_path, tensors, FOUR_BIT)
    assert numpy.array_equal(values_of(opened.tensors["m.weight"]), weights)


def test_int8_rows_times_their_scale_over_127(tmp_path):
    draw = random(5)
    codes = draw.integers(-127, 128, (7, 32), dtype=numpy.int8)
    scb = draw.uniform(0.1, 2, 7).astype(numpy.float32)
    tensors = named(weight=codes, SCB=scb, weight_format=numpy.zeros((), dtype=numpy.uint8))
    opened, _ = open_packed(tmp_path, tensors, EIGHT_BIT)
    expected = codes.astype(numpy.float32) * scb[:, None] * numpy.float32(7.874015718698502e-3)
    assert list(opened.tensors) == ["m.weight"]
    assert numpy.array_equal(values_of(opened.tensors["m.weight"]), expected)
    assert numpy.allclose(expected, codes * scb[:, None].astype(float) / 127, rtol=1e-6)


@pytest.mark.parametrize("missing", ["absmax", "quant_map", "nested_absmax", "nested_quant_map"])
def test_a_missing_companion_of_4_bit_codes_is_named(missing, tmp_path):
    tensors, _ = four_bit(nested=True)
    del tensors[f"m.weight.{missing}"]
    with pytest.raises(
        CheckpointError, match=rf"m\.weight is quantized \(bitsandbytes\), but its companion m\.weight\.{missing}"
    ):
        open_packed(tmp_path, tensors, FOUR_BIT)


def test_missing_state_and_missing_scales_of_int8_are_named(tmp_path):
    tensors, _ = four_bit()
    del tensors["m.weight.quant_state.bitsandbytes__fp4"]
    with pytest.raises(CheckpointError, match=r"its companion m\.weight\.quant_state\.bitsandbytes__nf4 is missing"):
        open_packed(tmp_path, tensors, FOUR_BIT)
    with pytest.raises(CheckpointError, match=r"its companion m\.SCB is missing"):
        open_packed(tmp_path, named(weight=numpy.ones((2, 2), numpy.int8)), EIGHT_BIT)


def test_int8_in_a_layout_of_a_graphics_card_is_refused(tmp_path):
    layout = named(
        weight=numpy.ones((2, 2), numpy.int8),
        SCB=numpy.ones(2, numpy.float32),
        weight_format=numpy.array(2, numpy.uint8),
    )
    with pytest.raises(CheckpointError, match="with int8 weights in format 2 instead of rows"):
        open_packed(tmp_path, layout, EIGHT_BIT)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": [6, 66]}, "holds 195 bytes of 4-bit codes, but its shape"),
        ({"shape": [390]}, "expected two axes"),
        ({"shape": "x"}, "expected two axes|not the JSON"),
        ({"blocksize": 0}, "expected two axes"),
        ({"blocksize": 32}, r"m\.weight\.absmax has shape \[7\]"),
    ],
)
def test_a_state_that_contradicts_the_codes_is_refused(changes, message, tmp_path):
    with pytest.raises(CheckpointError, match=message):
        open_packed(tmp_path, four_bit()[0] | fp4_state(changes), FOUR_BIT)


def fp4_state(changes):
    state = {"quant_type": "fp4", "blocksize": 64, "dtype": "float16", "shape": [6, 65]} | changes
    return {"m.weight.quant_state.bitsandbytes__fp4": ("U8", numpy.frombuffer(json.dumps(state).encode(), numpy.uint8))}
