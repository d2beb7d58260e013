"""AutoRound: the kit's GPTQ and AWQ checkpoints under its names for them, and settings of single modules."""

import hashlib
import json
from pathlib import Path

import numpy
import pytest
from compare import KIT
from packed_checkpoint import open_packed, values_of
from quantized_sources import test_awq as awq
from quantized_sources import test_gptq as gptq

from toolkit.checkpoint.checkpoint import open_checkpoint
from toolkit.conversion.tensor_plan import plan_conversion
from toolkit.errors import CheckpointError
from toolkit.quant_profile import load_profile
from toolkit.quantized_sources.registry import decode_checkpoint
from toolkit.sources.hf_source import source_from_checkpoint

QUANTIZED = KIT / "quantized"
GPTQ = {"bits": 4, "group_size": 128, "sym": True, "data_type": "int", "act_bits": 16}
AWQ = {**GPTQ, "sym": False}


def relabelled(case: str, directory: Path, quantization: dict) -> Path:
    """Copy a quantized checkpoint of the kit with another quantization_config."""
    directory /= case
    directory.mkdir()
    for file in (QUANTIZED / "checkpoints" / case).iterdir():
        (directory / file.name).write_bytes(file.read_bytes())
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    config["quantization_config"] = quantization
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return directory


@pytest.mark.parametrize("method", ["auto-round", "intel/auto-round"])
@pytest.mark.parametrize(
    ("case", "settings"),
    [
        ("gptq_4bit", GPTQ | {"packing_format": "auto_round:auto_gptq"}),
        ("gptq_4bit", GPTQ | {"packing_format": "auto_round:gptq"}),
        ("gptq_4bit", GPTQ | {"packing_format": "auto_round"}),
        ("gptq_4bit", GPTQ | {"backend": "auto_round:gptq:exllamav2"}),
        ("gptq_4bit", GPTQ),
        ("awq_4bit", AWQ | {"packing_format": "auto_round:auto_awq"}),
        ("awq_4bit", AWQ | {"packing_format": "auto_round:awq"}),
    ],
)
def test_every_packing_format_gives_the_values_of_the_kit(method, case, settings, tmp_path):
    directory = relabelled(case, tmp_path, {"quant_method": method, **settings})
    checkpoint, _ = decode_checkpoint(open_checkpoint(directory))
    expected = json.loads((QUANTIZED / "expected" / f"{case}.json").read_text(encoding="utf-8"))
    for name, described in expected.items():
        values = values_of(checkpoint.tensors[name], 29).astype("<f4")
        assert hashlib.sha256(values.tobytes()).hexdigest() == described["sha256"]
    assert checkpoint.quantization == "auto-round, 4 bits"


@pytest.mark.parametrize(
    ("case", "format_", "type_"),
    [("gptq_4bit", "auto_round:auto_gptq", "Q4_0"), ("awq_4bit", "auto_round:auto_awq", "Q4_1")],
)
def test_the_very_codes_can_be_kept(case, format_, type_, tmp_path):
    settings = {"quant_method": "auto-round", **GPTQ, "sym": case == "gptq_4bit", "packing_format": format_}
    plan = plan_conversion(source_from_checkpoint(relabelled(case, tmp_path, settings)), load_profile("keep"))
    assert sum(tensor.type.name == type_ and tensor.kept for tensor in plan.tensors) == 7


def asymmetric(**changes):
    return {
        "quant_method": "auto-round",
        "bits": 4,
        "group_size": gptq.GROUP,
        "sym": False,
        "data_type": "int",
        **changes,
    }


@pytest.mark.parametrize(
    ("format_", "offset"),
    [
        ("auto_round:auto_gptq", 1),
        ("auto_round", 0),
        ("auto_round:exllamav2", 0),
        ("auto_round:gptqmodel", 0),
        ("auto_round:gptq:tritonv2", 1),
    ],
)
def test_the_format_tells_how_zeros_are_stored(format_, offset, tmp_path):
    tensors, weights = gptq.checkpoint(zero_offset=offset)
    opened, warnings = open_packed(tmp_path, tensors, asymmetric(packing_format=format_))
    assert numpy.array_equal(values_of(opened.tensors["m.weight"]), weights)
    assert warnings == ()


@pytest.mark.parametrize("bits", [5, 6, 7])
def test_widths_that_only_auto_round_packs_are_read(bits, tmp_path):
    tensors, weights = gptq.checkpoint(bits=bits, zero_offset=1)
    opened, _ = open_packed(tmp_path, tensors, asymmetric(bits=bits, packing_format="auto_round:auto_gptq"))
    assert numpy.array_equal(values_of(opened.tensors["m.weight"]), weights)


@pytest.mark.parametrize("name", ["m", "layers.m", "^m$"])
def test_extra_config_gives_a_module_bits_by_its_name_or_a_pattern(name, tmp_path):
    prefix = "layers." if name == "layers.m" else ""
    eight, weights = gptq.checkpoint(bits=8)
    four, four_weights = gptq.checkpoint(bits=4, seed=5)
    tensors = {prefix + key: value for key, value in eight.items()}
    tensors |= {key.replace("m.", "n."): value for key, value in four.items()}
    tensors["o.weight"] = ("F16", numpy.ones((4, 4), numpy.float16))
    extra = {name: {"bits": 8, "act_bits": None}, "o": {"bits": 16, "data_type": "fp"}}
    opened, _ = open_packed(tmp_path, tensors, asymmetric(packing_format="auto_round:auto_gptq", extra_config=extra))
    assert numpy.array_equal(values_of(opened.tensors[f"{prefix}m.weight"]), weights)
    assert numpy.array_equal(values_of(opened.tensors["n.weight"]), four_weights)
    assert opened.tensors["o.weight"].dtype == "F16"


def test_a_symmetric_module_among_others_tells_how_its_zeros_are_stored(tmp_path):
    plain, plain_weights = gptq.checkpoint(zero_offset=1)
    symmetric, weights = gptq.checkpoint(zeros=7, zero_offset=1, seed=4)
    tensors = plain | {key.replace("m.", "n."): value for key, value in symmetric.items()}
    settings = asymmetric(packing_format="auto_round", extra_config={"n": {"sym": True}})
    opened, warnings = open_packed(tmp_path, tensors, settings)
    assert numpy.array_equal(values_of(opened.tensors["n.weight"]), weights)
    assert numpy.array_equal(values_of(opened.tensors["m.weight"]), plain_weights)
    assert "packing_format is 'auto_round', but the zero points are those of gptq" in warnings[0]


def test_extra_config_gives_a_module_of_awq_a_group_size(tmp_path):
    tensors, weights = awq.checkpoint()
    settings = asymmetric(
        group_size=128, packing_format="auto_round:auto_awq", extra_config={"m": {"group_size": awq.GROUP}}
    )
    opened, _ = open_packed(tmp_path, tensors, settings)
    assert numpy.array_equal(values_of(opened.tensors["m.weight"]), weights)


def test_fp8_of_auto_round_is_read_by_its_scales(tmp_path):
    tensors = {
        "m.weight": ("F8_E4M3", numpy.full((4, 32), 0x38, dtype=numpy.uint8)),
        "m.weight_scale": ("F32", numpy.array([[0.5], [1], [2], [4]], dtype=numpy.float32)),
    }
    settings = asymmetric(bits=8, data_type="fp", packing_format="auto_round:fp8_static")
    opened, _ = open_packed(tmp_path, tensors, settings)
    assert values_of(opened.tensors["m.weight"])[:, 0].tolist() == [0.5, 1, 2, 4]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"packing_format": "auto_round:nv_fp"}, r"auto-round quantization with packing_format 'auto_round:nv_fp'"),
        ({"data_type": "mx_fp"}, r"and data_type 'mx_fp' \(first: m\), which cannot be read"),
        ({"rotation_config": {"algorithm": "hadamard"}}, "with rotation_config, weights that are only right behind"),
        ({"extra_config": ["m"]}, "with extra_config"),
        ({"extra_config": {"m": {"bits": 9}}}, r"with 9 bits \(first: m\)"),
    ],
)
def test_what_is_not_handled_is_refused_by_name(changes, message, tmp_path):
    with pytest.raises(CheckpointError, match=message):
        open_packed(tmp_path, gptq.checkpoint()[0], asymmetric(**changes))
