import numpy
import pytest
from packed_checkpoint import named, open_packed, packed_bits, random, values_of

from toolkit.errors import CheckpointError

OUT, IN, GROUP = 64, 96, 32


def settings(**changes):
    return {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "desc_act": False, "sym": False, **changes}


def packed_3_bits(codes):
    """Return int32 [inputs / 32 * 3, outputs], packed step by step as AutoGPTQ packs 3 bits along the first axis."""
    result = numpy.zeros((len(codes) // 32 * 3, codes.shape[1]), dtype=numpy.uint32)
    code, word = 0, 0
    codes = codes.astype(numpy.uint32)
    while word < len(result):
        for index in range(10):
            result[word] |= codes[code + index] << 3 * index
        result[word] |= codes[code + 10] << 30
        result[word + 1] |= (codes[code + 10] >> 2) & 1
        for index in range(10):
            result[word + 1] |= codes[code + 11 + index] << (3 * index + 1)
        result[word + 1] |= codes[code + 21] << 31
        result[word + 2] |= (codes[code + 21] >> 1) & 3
        for index in range(10):
            result[word + 2] |= codes[code + 22 + index] << (3 * index + 2)
        code, word = code + 32, word + 3
    return result.view(numpy.int32)


def checkpoint(bits=4, act_order=False, zero_offset=1, zeros=None, seed=1, shape=(OUT, IN)):
    """Return (tensors, weights [outputs, inputs] by definition)."""
    draw, (outputs, inputs) = random(seed), shape
    codes, groups = draw.integers(0, 2**bits, (inputs, outputs)), (inputs // GROUP, outputs)
    stored_zeros = draw.integers(0, 2**bits, groups) if zeros is None else numpy.full(groups, zeros)
    scales = draw.uniform(0.005, 0.02, groups).astype(numpy.float16)
    g_idx = (numpy.arange(inputs) // GROUP).astype(numpy.int32)
    if act_order:
        g_idx = draw.permutation(g_idx)
    tensors = named(
        qweight=packed_bits(codes.T, bits).T.copy().view(numpy.int32),
        qzeros=packed_bits(stored_zeros, bits).view(numpy.int32),
        scales=scales,
        g_idx=g_idx,
    )
    weights = numpy.empty(shape, dtype=numpy.float32)
    for column, group in enumerate(g_idx):
        steps = (codes[column] - (stored_zeros[group] + zero_offset)).astype(numpy.float32)
        weights[:, column] = scales[group].astype(numpy.float32) * steps
    return tensors, weights


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("act_order", [False, True])
def test_codes_of_every_width_are_read_with_rows_that_follow_g_idx(bits, act_order, tmp_path):
    tensors, weights = checkpoint(bits, act_order)
    opened, _ = open_packed(tmp_path, tensors, settings(bits=bits, desc_act=act_order))
    assert list(opened.tensors) == ["m.weight"]
    assert numpy.array_equal(values_of(opened.tensors["m.weight"]), weights)


def test_3_bit_codes_lie_across_words_as_autogptq_packs_them():
    codes = random(3).integers(0, 8, (64, 5))
    assert numpy.array_equal(packed_3_bits(codes), packed_bits(codes.T, 3).T.view(numpy.int32))


def test_format_v2_stores_the_zeros_themselves(tmp_path):
    tensors, weights = checkpoint(zero_offset=0)
    opened, _ = open_packed(tmp_path, tensors, settings(checkpoint_format="gptq_v2"))
    assert numpy.array_equal(values_of(opened.tensors["m.weight"]), weights)


@pytest.mark.parametrize("drop", [True, False])
def test_without_g_idx_or_with_one_of_zeros_the_order_is_the_plain_one(drop, tmp_path):
    tensors, weights = checkpoint()
    tensors["m.g_idx"] = ("I32", numpy.zeros(IN, dtype=numpy.int32))
    if drop:
        del tensors["m.g_idx"]
    opened, _ = open_packed(tmp_path, tensors, settings())
    assert numpy.array_equal(values_of(opened.tensors["m.weight"]), weights)


@pytest.mark.parametrize(("label", "stored", "offset"), [("gptq", 8, 0), ("gptq_v2", 7, 1)])
def test_the_zeros_of_a_symmetric_checkpoint_win_over_a_wrong_label(label, stored, offset, tmp_path):
    tensors, weights = checkpoint(zeros=stored, zero_offset=offset)
    opened, warnings = open_packed(tmp_path, tensors, settings(sym=True, checkpoint_format=label))
    assert numpy.array_equal(values_of(opened.tensors["m.weight"]), weights)
    assert f"checkpoint_format is '{label}', but the zero points are those of" in warnings[0]


@pytest.mark.parametrize(("label", "stored", "offset"), [("gptq", 7, 1), ("gptq_v2", 8, 0)])
def test_a_right_label_is_not_remarked_on(label, stored, offset, tmp_path):
    tensors, weights = checkpoint(zeros=stored, zero_offset=offset)
    opened, warnings = open_packed(tmp_path, tensors, settings(sym=True, checkpoint_format=label))
    assert numpy.array_equal(values_of(opened.tensors["m.weight"]), weights)
    assert warnings == ()


def test_biases_and_plain_modules_stay_as_they_are(tmp_path):
    tensors, _ = checkpoint()
    plain = {
        "m.bias": ("F16", numpy.ones(OUT, numpy.float16)),
        "lm_head.weight": ("F16", numpy.ones((8, 4), numpy.float16)),
    }
    opened, _ = open_packed(tmp_path, tensors | plain, settings())
    assert {name: tensor.dtype for name, tensor in opened.tensors.items()} == {
        "m.bias": "F16",
        "lm_head.weight": "F16",
        "m.weight": "F32",
    }


def test_dynamic_settings_give_a_module_other_bits(tmp_path):
    tensors, weights = checkpoint(bits=8)
    four, four_weights = checkpoint(bits=4, seed=5)
    both = tensors | {name.replace("m.", "n."): value for name, value in four.items()}
    opened, _ = open_packed(tmp_path, both, settings(dynamic={"-:x": {}, "+:^m$": {"bits": 8}}))
    assert numpy.array_equal(values_of(opened.tensors["m.weight"]), weights)
    assert numpy.array_equal(values_of(opened.tensors["n.weight"]), four_weights)


@pytest.mark.parametrize("missing", ["scales", "qzeros"])
def test_an_incomplete_set_names_its_missing_companion(missing, tmp_path):
    tensors, _ = checkpoint()
    del tensors[f"m.{missing}"]
    with pytest.raises(
        CheckpointError, match=rf"m\.qweight is quantized \(gptq\), but its companion m\.{missing} is missing"
    ):
        open_packed(tmp_path, tensors, settings())


def test_companions_without_their_codes_are_refused(tmp_path):
    tensors, _ = checkpoint()
    other = {name.replace("m.", "n."): value for name, value in tensors.items() if "qweight" not in name}
    with pytest.raises(CheckpointError, match=r"n\.qzeros belongs to a quantized checkpoint \(GPTQ or AWQ\), but"):
        open_packed(tmp_path, tensors | other, settings())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bits": 5}, r"gptq quantization with 5 bits \(first: m\), which cannot be read"),
        ({"checkpoint_format": "marlin"}, r"gptq quantization with checkpoint_format 'marlin' \(first: m\)"),
        ({"bits": None}, "bits of the gptq quantization is None, expected a number"),
        ({"bits": 8}, "does not describe this checkpoint|has shape"),
        ({"group_size": 16}, "does not describe this checkpoint"),
    ],
)
def test_what_is_not_handled_is_refused_by_name(changes, message, tmp_path):
    tensors, _ = checkpoint()
    del tensors["m.g_idx"]
    with pytest.raises(CheckpointError, match=message):
        open_packed(tmp_path, tensors, settings(**changes))


def test_a_group_beyond_the_scales_is_refused(tmp_path):
    tensors, _ = checkpoint()
    tensors["m.g_idx"] = ("I32", numpy.full(IN, 7, dtype=numpy.int32))
    with pytest.raises(CheckpointError, match=r"needs groups 7 to 7, but m\.scales has 3"):
        open_packed(tmp_path, tensors, settings())
