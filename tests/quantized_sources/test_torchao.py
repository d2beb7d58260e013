"""torchao: checkpoints that it wrote itself mean here, bit for bit, what they mean to it."""

import hashlib
import json
import shutil
import struct
from pathlib import Path

import numpy
import pytest
from editable_checkpoint import edit_case, read_safetensors, write_safetensors
from packed_checkpoint import values_of
from twins import convert_edited

from toolkit.checkpoint.checkpoint import open_checkpoint
from toolkit.checkpoint.safetensors_reader import read_metadata
from toolkit.errors import CheckpointError
from toolkit.gguf.rows import row_count
from toolkit.llama.quantizer import to_float32
from toolkit.quantized_sources.registry import decode_checkpoint
from toolkit.quantized_sources.repack import repacked

GOLDEN = Path(__file__).parents[1] / "golden"
MEANT = json.loads((GOLDEN / "torchao.json").read_text(encoding="utf-8"))
CONFIG = {
    "quantization_config": {"quant_method": "torchao", "quant_type": {"default": {"_type": "IntxWeightOnlyConfig"}}}
}
KEPT = {
    "intx 4 bits": "Q4_0",
    "intx 4 bits with zero points": "Q4_1",
    "intx 3 bits": "Q4_0",
    "intx 8 bits by rows": "Q8_0",
}


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    shutil.copyfile(GOLDEN / "torchao.safetensors", tmp_path / "model.safetensors")
    return tmp_path


def tensors_of(directory):
    return decode_checkpoint(open_checkpoint(directory))[0].tensors


def rewrite(directory, change):
    """Write the file anew with what `change` does to its tensors and metadata."""
    file = directory / "model.safetensors"
    tensors, metadata = read_safetensors(file), read_metadata(file)
    change(tensors, metadata)
    write_safetensors(file, tensors, metadata)


@pytest.mark.parametrize("name", sorted(MEANT))
def test_the_weights_are_those_that_torchao_gives(name, directory):
    tensor = tensors_of(directory)[f"{name}.weight"]
    for step in (7, 24):
        values = values_of(tensor, step).astype("<f4") + 0  # no zero is negative
        assert hashlib.sha256(values.tobytes()).hexdigest() == MEANT[name]


def test_nothing_is_left_over_and_plain_tensors_stay(directory):
    tensors = tensors_of(directory)
    assert set(tensors) == {f"{name}.weight" for name in (*MEANT, "plain")}
    assert tensors["plain.weight"].dtype == "F32"


@pytest.mark.parametrize("name", sorted(MEANT))
def test_the_codes_that_gguf_has_a_grid_for_are_kept(name, directory):
    tensor = tensors_of(directory)[f"{name}.weight"]
    kept = repacked(tensor)
    assert (kept.rows.type.name if kept else None) == KEPT.get(name)
    if kept:
        blocks = to_float32(kept.rows.read_rows(0, row_count(kept.rows.shape)), kept.rows.type)
        assert numpy.abs(blocks - values_of(tensor)).max() <= kept.worst_difference
        assert (kept.worst_difference == 0) is (KEPT[name] != "Q4_1")


def test_descriptions_in_several_shards_count_together(directory):
    whole = directory / "model.safetensors"
    tensors, metadata = read_safetensors(whole), read_metadata(whole)
    whole.unlink()
    names = json.loads(metadata["tensor_names"])
    for number, part in enumerate((names[:5], names[5:]), 1):
        modules = tuple(f"{name.removesuffix('.weight')}." for name in part)
        write_safetensors(
            directory / f"model-0000{number}-of-00002.safetensors",
            {name: value for name, value in tensors.items() if name.startswith(modules)},
            {"tensor_names": json.dumps(part)} | {name: metadata[name] for name in part},
        )
    assert set(tensors_of(directory)) == set(names)


def test_a_model_becomes_the_file_of_its_dequantized_twin(tmp_path):
    described = {
        "_type": "IntxUnpackedToInt8Tensor",
        "_data": {"target_dtype": {"_type": "torch.dtype", "_data": "int8"}},
    }
    module = "model.layers.0.self_attn.k_proj"
    draw = numpy.random.default_rng(5)
    files = []
    for packed in (True, False):
        base = edit_case("llama3", tmp_path / str(packed))
        rows, columns = base.tensors.pop(f"{module}.weight")[1].shape
        codes = draw.integers(-127, 128, (rows, columns), dtype=numpy.int8)
        scales = draw.uniform(0.001, 0.002, (rows, columns // 32)).astype("<f4")
        draw = numpy.random.default_rng(5)
        metadata = {}
        if packed:
            base.config |= CONFIG
            base.tensors[f"{module}._weight_qdata"] = ("I8", codes)
            base.tensors[f"{module}._weight_scale"] = ("F32", scales)
            metadata = {"tensor_names": json.dumps([f"{module}.weight"]), f"{module}.weight": json.dumps(described)}
        else:
            base.tensors[f"{module}.weight"] = ("F32", codes.astype("<f4") * numpy.repeat(scales, 32, axis=1))
        directory = base.save()
        write_safetensors(directory / "model.safetensors", base.tensors, metadata)
        files.append(convert_edited(directory, "f32").read_bytes())
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _, metadata: metadata.clear(), r"model\.safetensors: the metadata of its header has no 'tensor_names'"),
        (
            lambda _, metadata: metadata.update({"float8 by rows.weight": '{"_type": "Int4Tensor"}'}),
            r"torchao quantization of class Int4Tensor \(first: float8 by rows\), which cannot be read",
        ),
        (
            lambda tensors, _: tensors.pop("intx 3 bits._weight_scale"),
            r"its companion intx 3 bits\._weight_scale is missing",
        ),
        (
            lambda tensors, _: tensors.update({"intx 3 bits._weight_scale": ("F16", numpy.ones((24, 3), "<f2"))}),
            r"_weight_scale has shape \[24, 3\], of which .* \[24, 128\] is not a multiple",
        ),
        (
            lambda tensors, _: tensors.update({"int8 by rows._weight_act_pre_scale": ("F32", numpy.ones(128, "<f4"))}),
            r"with act_pre_scale \(first: int8 by rows\)",
        ),
        (
            lambda tensors, _: tensors.update({"int8 by rows._weight_qdata": ("U8", numpy.ones((24, 128), "u1"))}),
            r"_weight_qdata is U8, but torchao stores I8 there",
        ),
        (
            lambda _, metadata: metadata.update({"intx 3 bits.weight": '{"_type": "IntxUnpackedToInt8Tensor"}'}),
            r"without a target_dtype of 1 to 8 bits \(first: intx 3 bits\.weight\)",
        ),
    ],
)
def test_what_is_not_handled_is_refused_by_name(change, message, directory):
    rewrite(directory, change)
    with pytest.raises(CheckpointError, match=message):
        tensors_of(directory)


def test_packed_tensors_without_a_quantization_config_are_refused(directory):
    (directory / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"_qdata belongs to a quantized checkpoint \(torchao\)"):
        tensors_of(directory)


def test_the_golden_file_is_what_torchao_wrote():
    data = (GOLDEN / "torchao.safetensors").read_bytes()
    header = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
    assert set(json.loads(header["__metadata__"]["tensor_names"])) == {f"{name}.weight" for name in (*MEANT, "plain")}
