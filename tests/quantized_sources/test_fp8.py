import hashlib

import numpy
import pytest
from packed_checkpoint import open_packed, random, values_of
from twins import changed_case, convert_edited

from toolkit.errors import CheckpointError, TensorError
from toolkit.quantized_sources.numbers import Numbers

ALL_CODES = numpy.arange(256, dtype=numpy.uint8)
BLOCKS = {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}
PLAIN = {"quant_method": "fp8", "activation_scheme": "static"}


def decoded(codes, dtype="F8_E4M3"):
    return Numbers("", dtype, codes).floats()


def codes_of(shape, seed=6):
    codes = random(seed).integers(0, 256, shape, dtype=numpy.uint8)
    return numpy.where((codes & 0x7F) >= 0x7C, 0, codes).astype(numpy.uint8)


@pytest.mark.parametrize(
    ("dtype", "digest"),
    [
        ("F8_E4M3", "60efb1d40706a18a8834b00445a3e025c9f2bc953f6acbf3dc1d3caa17950418"),
        ("F8_E5M2", "b4685286a46b100946d038bd06a9cf8977d074f22482e5879c0b7beebdead0de"),
        ("F8_E8M0", "1783ab309d1e67a0a07690d06d9056e561df8a01af1a094ea84d420603e58ee8"),
    ],
)
def test_all_256_codes_mean_what_they_mean_to_torch(dtype, digest):
    """The digests are of torch 2.13's values, with 12345 in place of NaN."""
    values = decoded(ALL_CODES, dtype)
    marked = numpy.where(numpy.isnan(values), numpy.float32(12345), values)
    assert hashlib.sha256(marked.astype("<f4").tobytes()).hexdigest() == digest


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2"])
def test_blocks_of_128_with_smaller_ones_at_the_edges(dtype, tmp_path):
    codes, scales = codes_of((200, 320)), random(7).uniform(0.1, 1, (2, 3)).astype(numpy.float32)
    tensors = {"m.weight": (dtype, codes), "m.weight_scale_inv": ("F32", scales)}
    opened, _ = open_packed(tmp_path, tensors, BLOCKS)
    spread = numpy.repeat(numpy.repeat(scales, 128, 0), 128, 1)[:200, :320]
    assert numpy.array_equal(values_of(opened.tensors["m.weight"], 33), decoded(codes, dtype) * spread)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (6, 1), (6,)])
@pytest.mark.parametrize("name", ["weight_scale", "weight_scale_inv", "qscale_weight"])
def test_one_scale_for_the_tensor_or_for_each_row(shape, name, tmp_path):
    codes, scales = codes_of((6, 32)), random(8).uniform(0.1, 1, shape).astype(numpy.float32)
    tensors = {"m.weight": ("F8_E4M3", codes), f"m.{name}": ("F32", numpy.asarray(scales))}
    opened, _ = open_packed(tmp_path, tensors, PLAIN)
    assert list(opened.tensors) == ["m.weight"]
    assert numpy.array_equal(values_of(opened.tensors["m.weight"]), decoded(codes) * numpy.reshape(scales, (-1, 1)))


def test_stacked_experts_have_blocks_or_scales_of_their_own(tmp_path):
    codes = codes_of((3, 130, 64))
    blocks = random(9).uniform(0.1, 1, (3, 2, 1)).astype(numpy.float32)
    opened, _ = open_packed(tmp_path, {"e.up": ("F8_E4M3", codes), "e.up_scale_inv": ("F32", blocks)}, BLOCKS)
    expected = decoded(codes) * numpy.repeat(blocks, 128, 1)[:, :130]
    assert numpy.array_equal(values_of(opened.tensors["e.up"], 70), expected)
    each = blocks[:, :1]
    opened, _ = open_packed(tmp_path, {"e.up": ("F8_E4M3", codes), "e.up_scale": ("F32", each)}, PLAIN)
    assert numpy.array_equal(values_of(opened.tensors["e.up"], 70), decoded(codes) * each)


def test_scales_of_activations_and_of_the_kv_cache_are_left_out_by_rule(tmp_path):
    one = ("F32", numpy.ones((), dtype=numpy.float32))
    tensors = {"m.weight": ("F8_E4M3", codes_of((2, 32))), "m.weight_scale": one}
    extra = ("m.input_scale", "a.k_scale", "a.v_scale", "m.activation_scale", "e.up_activation_scale", "m.qscale_act")
    opened, _ = open_packed(tmp_path, tensors | dict.fromkeys(extra, one), PLAIN)
    assert list(opened.tensors) == ["m.weight"]
    assert any("left out 6 tensors: scales of activations or of the KV cache" in note for note in opened.notes)


def test_norms_router_and_embedding_stay_as_they_are(tmp_path):
    plain = {name: ("BF16", numpy.ones((2, 2), "<u2")) for name in ("norm.weight", "mlp.gate.weight", "embed.weight")}
    one = ("F32", numpy.ones((), dtype=numpy.float32))
    tensors = {"m.weight": ("F8_E4M3", codes_of((2, 32))), "m.weight_scale": one} | plain
    opened, _ = open_packed(tmp_path, tensors, PLAIN)
    assert {name: tensor.dtype for name, tensor in opened.tensors.items() if name in plain} == dict.fromkeys(
        plain, "BF16"
    )


@pytest.mark.parametrize(
    ("settings", "scales", "message"),
    [
        (
            BLOCKS,
            (3, 3),
            r"m\.weight_scale_inv has shape \[3, 3\], which does not fit m\.weight \[200, 320\] .*blocks of 128 x 128",
        ),
        (PLAIN, (2, 3), "one for the tensor, or one for each row"),
        (BLOCKS | {"weight_block_size": 128}, (2, 3), "weight_block_size is 128, expected"),
        (BLOCKS | {"weight_block_size": [0, 128]}, (2, 3), "weight_block_size is"),
    ],
)
def test_scales_that_do_not_fit_the_declared_layout_are_refused(settings, scales, message, tmp_path):
    tensors = {"m.weight": ("F8_E4M3", codes_of((200, 320))), "m.weight_scale_inv": ("F32", numpy.ones(scales, "<f4"))}
    with pytest.raises(CheckpointError, match=message):
        open_packed(tmp_path, tensors, settings)


def test_a_weight_without_its_scale_and_a_scale_without_its_weight_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"its companion m\.weight_scale_inv is missing"):
        open_packed(tmp_path, {"m.weight": ("F8_E4M3", codes_of((2, 32)))}, PLAIN)
    good = {"m.weight": ("F8_E4M3", codes_of((2, 32))), "m.weight_scale": ("F32", numpy.ones(1, "<f4"))}
    with pytest.raises(CheckpointError, match=r"n\.weight_scale_inv belongs to a quantized checkpoint"):
        open_packed(tmp_path, good | {"n.weight_scale_inv": ("F32", numpy.ones(1, "<f4"))}, PLAIN)


def test_a_nan_code_is_refused_by_name_when_it_is_converted(tmp_path):
    def with_nan(checkpoint):
        name = "model.layers.0.mlp.down_proj.weight"
        codes = codes_of(checkpoint.tensors[name][1].shape)
        codes[3, 5] = 0x7F
        checkpoint.tensors[name] = ("F8_E4M3", codes)
        checkpoint.tensors[f"{name}_scale"] = ("F32", numpy.ones(1, "<f4"))
        checkpoint.config["quantization_config"] = PLAIN

    directory = changed_case("llama2", tmp_path / "root", with_nan)
    with pytest.raises(TensorError, match=r"blk\.0\.ffn_down\.weight holds 1 NaN and 0 infinite weights"):
        convert_edited(directory)
    assert not (tmp_path / "root" / "converted.gguf").exists()


def test_scales_of_eight_bits_are_scales_and_no_weights(tmp_path):
    codes, scales = codes_of((6, 32)), codes_of((6, 1), seed=9)
    opened, _ = open_packed(tmp_path, {"m.weight": ("F8_E4M3", codes), "m.weight_scale": ("F8_E4M3", scales)}, PLAIN)
    assert list(opened.tensors) == ["m.weight"]
    assert numpy.array_equal(values_of(opened.tensors["m.weight"]), decoded(codes) * decoded(scales))
