"""ModelOpt, MXFP4, MLX; and what is said of everything else."""

import json

import numpy
import pytest
from packed_checkpoint import e2m1, named, open_packed, packed_bits, random, values_of, write_packed

from toolkit.checkpoint.checkpoint import open_checkpoint
from toolkit.errors import CheckpointError
from toolkit.gguf.ggml_types import TYPES
from toolkit.llama.quantizer import to_float32
from toolkit.quantized_sources.numbers import Numbers
from toolkit.quantized_sources.registry import decode_checkpoint

F8 = numpy.full((4, 32), 0x38, dtype=numpy.uint8)
PLAIN = {"m.weight": ("F16", numpy.ones((4, 32), numpy.float16))}


def modelopt(directory, algorithm, tensors):
    """Open a checkpoint that only hf_quant_config.json describes."""
    write_packed(directory, tensors, None)
    text = json.dumps({"producer": {"name": "modelopt"}, "quantization": {"quant_algo": algorithm, "group_size": 16}})
    (directory / "hf_quant_config.json").write_text(text, encoding="utf-8")
    return decode_checkpoint(open_checkpoint(directory))


def nvfp4(rows=6, columns=64):
    draw = random(16)
    codes = draw.integers(0, 16, (rows, columns), dtype=numpy.uint8)
    scales = draw.integers(1, 0x70, (rows, columns // 16), dtype=numpy.uint8)
    factor = numpy.array(0.0013, dtype=numpy.float32)
    tensors = named(weight=codes[:, 0::2] | codes[:, 1::2] << 4, weight_scale_2=factor, input_scale=factor)
    each = numpy.repeat(Numbers("", "F8_E4M3", scales).floats() * factor, 16, axis=1)
    return tensors | {"m.weight_scale": ("F8_E4M3", scales)}, e2m1(codes) * each


def test_modelopt_nvfp4_multiplies_by_the_scale_of_the_tensor(tmp_path):
    tensors, weights = nvfp4()
    opened, _ = modelopt(tmp_path, "NVFP4", tensors)
    assert list(opened.tensors) == ["m.weight"]
    assert numpy.array_equal(values_of(opened.tensors["m.weight"]), weights)


def test_modelopt_fp8(tmp_path):
    tensors = {"m.weight": ("F8_E4M3", F8), "m.weight_scale": ("F32", numpy.array(0.5, dtype=numpy.float32))}
    opened, _ = modelopt(tmp_path, "FP8", tensors)
    assert (values_of(opened.tensors["m.weight"]) == 0.5).all()


def test_another_algorithm_of_modelopt_is_refused_with_the_first_module(tmp_path):
    tensors = {"m.weight": ("U8", F8), "m.weight_scale": ("F32", numpy.ones(1, dtype=numpy.float32))}
    message = (
        r"hf_quant_config\.json: modelopt quantization with quant_algo 'W4A8_AWQ' \(first: m\), which cannot be read"
    )
    with pytest.raises(CheckpointError, match=message):
        modelopt(tmp_path, "W4A8_AWQ", tensors)


def mxfp4(experts=2, outputs=3, groups=2):
    draw = random(17)
    codes = draw.integers(0, 16, (experts, outputs, groups, 32), dtype=numpy.uint8)
    scales = draw.integers(110, 140, (experts, outputs, groups), dtype=numpy.uint8)
    blocks = codes[..., 0::2] | codes[..., 1::2] << 4
    weights = (e2m1(codes) * 2.0 ** (scales.astype(int) - 127)[..., None]).reshape(experts, outputs, -1)
    return {"e.up_blocks": ("U8", blocks), "e.up_scales": ("U8", scales)}, weights, (codes, scales)


def test_mxfp4_blocks_are_kept_with_the_nibbles_in_the_order_of_gguf(tmp_path):
    tensors, weights, (codes, scales) = mxfp4()
    opened, warnings = open_packed(tmp_path, tensors, {"quant_method": "mxfp4"})
    assert warnings == ()
    assert list(opened.tensors) == ["e.up_blocks"]
    rows = opened.tensors["e.up_blocks"].rows()
    assert (rows.type, rows.shape) == (TYPES["MXFP4"], (2, 3, 64))
    stored = numpy.concatenate([rows.read_rows(0, 2), rows.read_rows(2, 6)])
    assert numpy.array_equal(to_float32(stored, rows.type).reshape(weights.shape), weights)
    block = stored.reshape(2, 3, 2, 17)[1, 2, 0]
    assert block[0] == scales[1, 2, 0]
    assert numpy.array_equal(block[1:], codes[1, 2, 0, :16] | codes[1, 2, 0, 16:] << 4)


def test_mxfp4_blocks_without_scales_are_refused(tmp_path):
    tensors, _, _ = mxfp4()
    del tensors["e.up_scales"]
    with pytest.raises(CheckpointError, match=r"its companion e\.up_scales is missing"):
        open_packed(tmp_path, tensors, {"quant_method": "mxfp4"})


def mlx(bits, seed=18, rows=5, columns=64):
    draw = random(seed)
    codes = draw.integers(0, 2**bits, (rows, columns))
    scales, biases = (draw.uniform(-1, 1, (rows, columns // 32)).astype(numpy.float16) for _ in range(2))
    groups = numpy.arange(columns) // 32
    weights = scales[:, groups].astype(numpy.float32) * codes.astype(numpy.float32) + biases[:, groups].astype(
        numpy.float32
    )
    return named(weight=packed_bits(codes, bits), scales=scales, biases=biases), weights


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
def test_affine_groups_of_mlx(bits, tmp_path):
    tensors, weights = mlx(bits)
    opened, _ = open_packed(tmp_path, tensors, {"group_size": 32, "bits": bits})
    assert list(opened.tensors) == ["m.weight"]
    assert numpy.array_equal(values_of(opened.tensors["m.weight"], 3), weights.astype(numpy.float32))


def test_a_module_of_mlx_may_have_bits_of_its_own(tmp_path):
    tensors, weights = mlx(8)
    opened, _ = open_packed(tmp_path, tensors, {"group_size": 32, "bits": 4, "m": {"group_size": 32, "bits": 8}})
    assert numpy.array_equal(values_of(opened.tensors["m.weight"]), weights)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"group_size": 32, "bits": 4, "mode": "mxfp4"}, "mlx quantization in mode 'mxfp4'"),
        ({"group_size": 32, "bits": 7}, "mlx quantization with 7 bits in groups of 32"),
        ({"group_size": 64, "bits": 4}, r"m\.scales has shape \[5, 2\]"),
        ({"group_size": 48, "bits": 4}, "not whole groups of 48"),
    ],
)
def test_other_modes_and_sizes_of_mlx_are_refused(settings, message, tmp_path):
    with pytest.raises(CheckpointError, match=message):
        open_packed(tmp_path, mlx(4)[0], settings)


@pytest.mark.parametrize("method", ["foo", "aqlm", "quip", "vptq"])
def test_an_unknown_method_is_refused_by_name_with_its_first_module(method, tmp_path):
    settings = {"quant_method": method, "bits": 3, "format": "dense"}
    message = rf"already quantized \({method}, 3 bits, dense; first module m\), which cannot be read; known: gptq, awq"
    with pytest.raises(CheckpointError, match=message):
        open_packed(tmp_path, {"m.codes": ("U8", F8)} | PLAIN, settings)


@pytest.mark.parametrize("method", ["gptq", "awq", "bitsandbytes", "fp8", "compressed-tensors", "mxfp4"])
def test_a_method_that_the_tensors_lack_is_refused(method, tmp_path):
    settings = {"quant_method": method, "bits": 4, "group_size": 32}
    with pytest.raises(
        CheckpointError, match=rf"says that the checkpoint is quantized \({method}.*but no tensor is stored that way"
    ):
        open_packed(tmp_path, PLAIN, settings)


@pytest.mark.parametrize(
    ("name", "library"),
    [
        ("lm_head.weight._data", "optimum-quanto"),
        ("lm_head.weight._scale", "optimum-quanto"),
        ("m.W_q", "HQQ"),
        ("m.qweight", "GPTQ or AWQ"),
        ("m.weight.absmax", "bitsandbytes"),
        ("m.SCB", "bitsandbytes"),
        ("m.weight_scale_inv", "FP8"),
    ],
)
def test_packed_tensors_that_nothing_describes_are_refused_with_the_likely_library(name, library, tmp_path):
    with pytest.raises(
        CheckpointError, match=rf"belongs to a quantized checkpoint \({library}\), but config.json has no"
    ):
        open_packed(tmp_path, {name: ("I8", F8.view(numpy.int8))} | PLAIN, None)


@pytest.mark.parametrize("value", [True, "gptq", [1]])
def test_a_quantization_config_that_is_no_object_is_refused(value, tmp_path):
    with pytest.raises(CheckpointError, match=r"quantization_config is .*, expected an object"):
        open_packed(tmp_path, PLAIN, value)


def test_a_plain_checkpoint_stays_as_it_is(tmp_path):
    opened, warnings = open_packed(tmp_path, PLAIN, None)
    assert (list(opened.tensors), warnings) == (["m.weight"], ())


def test_the_command_refuses_with_one_line_and_exit_code_2(run_command, kit_checkpoint, tmp_path):
    directory = tmp_path / "llama2"
    directory.mkdir()
    for file in kit_checkpoint("llama2").iterdir():
        (directory / file.name).write_bytes(file.read_bytes())
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    config["quantization_config"] = {"quant_method": "aqlm"}
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    finished = run_command("convert", directory, tmp_path / "out.gguf", "--profile", "bf16")
    assert finished.returncode == 2
    assert "already quantized (aqlm; first module" in finished.stderr
    assert "Traceback" not in finished.stderr
    assert list(tmp_path.glob("*.gguf*")) == []
