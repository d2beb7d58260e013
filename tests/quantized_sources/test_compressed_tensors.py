import numpy
import pytest
from packed_checkpoint import e2m1, named, open_packed, packed_bits, random, values_of

from toolkit.errors import CheckpointError
from toolkit.quantized_sources.numbers import Numbers


def settings(weights, format_="pack-quantized", **changes):
    groups = {"group_0": {"targets": ["Linear"], "weights": weights}}
    return {
        "quant_method": "compressed-tensors",
        "format": format_,
        "config_groups": groups,
        "ignore": ["lm_head"],
        "version": "0.12.2",
        **changes,
    }


INT4 = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "symmetric": True}


def pack_columns(codes, bits):
    """Pack [rows, n] to int32 [rows, words], whole codes in each word, the last one padded with zeros."""
    per_word = 32 // bits
    words = numpy.zeros((len(codes), -(-codes.shape[1] // per_word)), dtype=numpy.uint32)
    for column in range(codes.shape[1]):
        words[:, column // per_word] |= codes[:, column].astype(numpy.uint32) << bits * (column % per_word)
    return words.view(numpy.int32)


def packed(rows=12, columns=80, size=32, bits=4, symmetric=False, g_idx=None, seed=10):
    """Return (tensors of `m`, weights by definition); neither axis is a multiple of its packing."""
    draw = random(seed)
    codes = draw.integers(0, 2**bits, (rows, columns))
    n_groups = -(-columns // size)
    zeros = numpy.full((rows, n_groups), 2 ** (bits - 1)) if symmetric else draw.integers(0, 2**bits, (rows, n_groups))
    scales = draw.uniform(0.005, 0.02, (rows, n_groups)).astype(numpy.float16)
    tensors = named(
        weight_packed=pack_columns(codes, bits), weight_scale=scales, weight_shape=numpy.array([rows, columns])
    )
    if not symmetric:
        tensors |= named(weight_zero_point=pack_columns(zeros.T, bits).T.copy())
    if g_idx is not None:
        tensors |= named(weight_g_idx=g_idx)
    groups = numpy.arange(columns) // size if g_idx is None else g_idx
    weights = scales[:, groups].astype(numpy.float32) * (codes - zeros[:, groups]).astype(numpy.float32)
    return tensors, weights


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_packed_integers_have_the_padding_of_both_axes_trimmed(bits, symmetric, tmp_path):
    tensors, weights = packed(bits=bits, symmetric=symmetric)
    tensors["lm_head.weight"] = ("F16", numpy.ones((2, 2), numpy.float16))
    opened, _ = open_packed(tmp_path, tensors, settings(INT4 | {"num_bits": bits, "symmetric": symmetric}))
    assert sorted(opened.tensors) == ["lm_head.weight", "m.weight"]
    for step in (5, 12):
        assert numpy.array_equal(values_of(opened.tensors["m.weight"], step), weights)


def without_gaps(codes, bits):
    """Pack [rows, n] as version 0.18 does: codes one after the other, in as few words as hold them."""
    missing = -codes.shape[1] % 32
    words = packed_bits(numpy.pad(codes, ((0, 0), (0, missing))), bits)
    return words[:, : -(-codes.shape[1] * bits // 32)].copy().view(numpy.int32)


@pytest.mark.parametrize(("columns", "version"), [(80, "0.18.0"), (96, None)])
@pytest.mark.parametrize("bits", [3, 5, 6, 7])
def test_codes_that_cross_words_follow_each_other_in_newer_versions(bits, columns, version, tmp_path):
    draw, rows = random(24), 41
    codes, zeros = draw.integers(0, 2**bits, (rows, columns)), draw.integers(0, 2**bits, (rows, 3))
    scales = draw.uniform(0.005, 0.02, (rows, 3)).astype(numpy.float16)
    tensors = named(
        weight_packed=without_gaps(codes, bits),
        weight_scale=scales,
        weight_zero_point=without_gaps(zeros.T, bits).T.copy(),
        weight_shape=numpy.array([rows, columns]),
    )
    scheme = settings(INT4 | {"num_bits": bits, "symmetric": False}, version=version)
    opened, _ = open_packed(tmp_path, tensors, scheme)
    groups = numpy.arange(columns) // 32
    weights = scales[:, groups].astype(numpy.float32) * (codes - zeros[:, groups]).astype(numpy.float32)
    for step in (5, 41):
        assert numpy.array_equal(values_of(opened.tensors["m.weight"], step), weights)


def test_codes_whose_packing_nothing_tells_are_refused(tmp_path):
    scheme = settings(INT4 | {"num_bits": 3, "symmetric": True}, version=None)
    with pytest.raises(CheckpointError, match="with 3 bits and no version, which would say how they are packed"):
        open_packed(tmp_path, packed(bits=3, symmetric=True)[0], scheme)


def test_one_scale_a_row_and_columns_in_the_order_of_activations(tmp_path):
    tensors, weights = packed(size=80, symmetric=True)
    opened, _ = open_packed(tmp_path, tensors, settings(INT4 | {"strategy": "channel", "group_size": None}))
    assert numpy.array_equal(values_of(opened.tensors["m.weight"]), weights)
    shuffled = random(11).permutation(numpy.arange(80) // 32).astype(numpy.int32)
    tensors, weights = packed(g_idx=shuffled)
    opened, _ = open_packed(tmp_path, tensors, settings(INT4 | {"actorder": "group"}))
    assert numpy.array_equal(values_of(opened.tensors["m.weight"]), weights)


@pytest.mark.parametrize("asymmetric", [False, True])
def test_int8_with_a_scale_for_each_row(asymmetric, tmp_path):
    draw = random(12)
    codes = draw.integers(-128, 128, (7, 32), dtype=numpy.int8)
    scales, zeros = (
        draw.uniform(0.01, 0.1, (7, 1)).astype(numpy.float32),
        draw.integers(-9, 9, (7, 1), dtype=numpy.int8),
    )
    tensors = named(weight=codes, weight_scale=scales) | (named(weight_zero_point=zeros) if asymmetric else {})
    weights = {"num_bits": 8, "type": "int", "strategy": "channel", "symmetric": not asymmetric}
    opened, _ = open_packed(tmp_path, tensors, settings(weights, "int-quantized"))
    shifted = codes.astype(numpy.float32) - (zeros if asymmetric else 0)
    assert numpy.array_equal(values_of(opened.tensors["m.weight"]), shifted.astype(numpy.float32) * scales)


def test_fp8_with_a_scale_for_each_block(tmp_path):
    codes = random(13).integers(0, 0x70, (40, 96), dtype=numpy.uint8)
    scales = random(14).uniform(0.1, 1, (2, 3)).astype(numpy.float32)
    weights = {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [32, 32]}
    tensors = {"m.weight": ("F8_E4M3", codes), "m.weight_scale": ("F32", scales)}
    opened, _ = open_packed(tmp_path, tensors, settings(weights, "float-quantized"))
    spread = numpy.repeat(numpy.repeat(scales, 32, 0), 32, 1)[:40]
    assert numpy.array_equal(values_of(opened.tensors["m.weight"]), Numbers("", "F8_E4M3", codes).floats() * spread)


NVFP4 = {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16}


def nvfp4(shape=(6, 64)):
    """Return (tensors of `m`, weights by definition)."""
    draw, (rows, columns) = random(15), shape
    codes = draw.integers(0, 16, shape, dtype=numpy.uint8)
    scales = draw.integers(1, 0x70, (rows, columns // 16), dtype=numpy.uint8)
    factor = numpy.array([448.0], dtype=numpy.float32)
    tensors = named(weight_packed=codes[:, 0::2] | codes[:, 1::2] << 4, weight_global_scale=factor)
    each = numpy.repeat(Numbers("", "F8_E4M3", scales).floats() / factor, 16, axis=1)
    return tensors | {"m.weight_scale": ("F8_E4M3", scales)}, e2m1(codes) * each


def test_nvfp4_divides_by_the_scale_of_the_tensor(tmp_path):
    tensors, weights = nvfp4()
    opened, _ = open_packed(tmp_path, tensors, settings(NVFP4, "nvfp4-pack-quantized"))
    assert numpy.array_equal(values_of(opened.tensors["m.weight"]), weights)


@pytest.mark.parametrize(("codes", "scales"), [((6, 40), (6, 2)), ((6, 32), (6, 1)), ((6, 32), (5, 2))])
def test_mxfp4_of_odd_shapes_is_refused(codes, scales, tmp_path):
    tensors = named(weight_packed=numpy.zeros(codes, numpy.uint8), weight_scale=numpy.zeros(scales, numpy.uint8))
    scheme = {"num_bits": 4, "type": "float", "strategy": "group", "group_size": 32}
    with pytest.raises(CheckpointError, match=r"m\.weight_(packed|scale) has shape"):
        open_packed(tmp_path, tensors, settings(scheme, "mxfp4-pack-quantized"))


def test_groups_of_modules_have_schemes_of_their_own(tmp_path):
    """4-bit MLP, 8-bit attention: by pattern, by name, and the rest by class."""
    four, four_weights = packed(bits=4)
    eight, eight_weights = packed(bits=8, seed=20)
    tensors = {name.replace("m.", "model.mlp.up."): value for name, value in four.items()}
    tensors |= {name.replace("m.", "model.attn.q."): value for name, value in eight.items()}
    groups = {
        "group_0": {"targets": ["re:.*attn.*"], "weights": INT4 | {"num_bits": 8}},
        "group_1": {"targets": ["Linear"], "weights": INT4},
    }
    opened, _ = open_packed(tmp_path, tensors, settings(INT4, config_groups=groups))
    assert numpy.array_equal(values_of(opened.tensors["model.mlp.up.weight"]), four_weights)
    assert numpy.array_equal(values_of(opened.tensors["model.attn.q.weight"]), eight_weights)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "marlin-24"}, r"compressed-tensors quantization in format 'marlin-24' \(first: m"),
        ({"config_groups": {"g": {"targets": ["re:other"], "weights": INT4}}}, "no config_group .* names it"),
        ({"config_groups": {"g": {"targets": ["re:("], "weights": INT4}}}, "is not a pattern"),
        ({"config_groups": {"g": {"targets": ["Linear"], "weights": None}}}, "without a scheme for weights"),
        ({"config_groups": None}, "without config_groups"),
        ({"config_groups": {"g": {"targets": ["Linear"], "weights": INT4 | {"num_bits": 16}}}}, "with 16 bits"),
        (
            {"config_groups": {"g": {"targets": ["Linear"], "weights": INT4 | {"group_size": 16}}}},
            r"stores \[12, 5\] there",
        ),
    ],
)
def test_what_is_not_handled_is_refused_by_name(changes, message, tmp_path):
    with pytest.raises(CheckpointError, match=message):
        open_packed(tmp_path, packed()[0], settings(INT4, **changes))


@pytest.mark.parametrize("missing", ["weight_scale", "weight_shape"])
def test_an_incomplete_set_names_its_missing_companion(missing, tmp_path):
    tensors, _ = packed()
    del tensors[f"m.{missing}"]
    with pytest.raises(CheckpointError, match=rf"its companion m\.{missing} is missing"):
        open_packed(tmp_path, tensors, settings(INT4))


def test_a_stored_shape_that_contradicts_the_words_is_refused(tmp_path):
    tensors, _ = packed()
    tensors["m.weight_shape"] = ("I64", numpy.array([12, 1 << 20]))
    with pytest.raises(CheckpointError, match=r"m\.weight_packed has shape \[12, 10\]"):
        open_packed(tmp_path, tensors, settings(INT4))
    tensors["m.weight_shape"] = ("I64", numpy.array([-1, 80]))
    with pytest.raises(CheckpointError, match=r"m\.weight_shape is \[-1, 80\], expected \[rows, columns\]"):
        open_packed(tmp_path, tensors, settings(INT4))
