"""A GGUF file as the beginning of a conversion: its tensors, its traits, and what is refused."""

from pathlib import Path

import gguf
import numpy
import pytest

from toolkit.conversion.convert import write_gguf
from toolkit.conversion.tensor_plan import plan_conversion
from toolkit.errors import GgufError, InputError
from toolkit.gguf.format import MetadataValue, ValueType, string, uint32
from toolkit.gguf.ggml_types import F16, F32
from toolkit.gguf.layout import encode
from toolkit.quant_profile import load_profile
from toolkit.sources.gguf_source import source_from_gguf, traits_from_metadata
from toolkit.sources.hf_source import source_from_checkpoint

CASES = ("llama3", "smollm", "qwen2", "mixtral", "qwen3_moe", "gemma2", "gpt2", "falcon_new")


def split_in_parts(source: Path, folder: Path, tensors_a_part: int) -> list[Path]:
    """Write a file as llama.cpp's split files, with the gguf library."""
    reader = gguf.GGUFReader(source)
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(folder / "model.gguf", architecture, split_max_tensors=tensors_a_part)
    for key, field in reader.fields.items():
        if not key.startswith("GGUF.") and key != "general.architecture":
            sub_type = field.types[-1] if field.types[0] is gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(key, field.contents(), field.types[0], sub_type)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, numpy.array(tensor.data), raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(folder.glob("*.gguf"))


@pytest.mark.parametrize("case", CASES)
def test_a_file_says_the_same_of_the_model_as_the_checkpoint_it_was_made_of(case, kit_checkpoint, converted):
    checkpoint, file = source_from_checkpoint(kit_checkpoint(case)), source_from_gguf(converted(case, "f32"))
    assert file.traits == checkpoint.traits
    assert {t.name: t.shape for t in file.tensors} == {t.name: t.shape for t in checkpoint.tensors}
    stored = {key: (value.type, encode(value)) for key, value in file.metadata.items() if key != "general.file_type"}
    assert stored == {key: (value.type, encode(value)) for key, value in checkpoint.metadata.items()}


@pytest.mark.parametrize("profile", ["q4_k_m", "q8_0", "f16"])
@pytest.mark.parametrize("case", ["llama_f32", "llama3"])
def test_quantizing_the_unquantized_file_is_converting_the_checkpoint(
    case, profile, kit_checkpoint, converted, tmp_path
):
    stored = "f32" if case == "llama_f32" else "bf16"
    for name, source in (
        ("converted", source_from_checkpoint(kit_checkpoint(case))),
        ("quantized", source_from_gguf(converted(case, stored))),
    ):
        write_gguf(plan_conversion(source, load_profile(profile)), tmp_path / name)
    assert (tmp_path / "converted").read_bytes() == (tmp_path / "quantized").read_bytes()


def test_what_is_never_quantized_keeps_the_type_that_it_has(converted):
    source = source_from_gguf(converted("qwen3_moe", "f16"))
    before = {tensor.name: tensor.source.type for tensor in source.tensors}
    plan = plan_conversion(source, load_profile("q4_k_m"))
    kept = {tensor.name: tensor.type for tensor in plan.tensors if tensor.type in (F16, F32)}
    assert kept == {name: before[name] for name in kept}
    assert any("ffn_gate_inp" in name for name in kept)


@pytest.mark.parametrize("part", [0, 2, -1])
def test_any_of_several_split_files_gives_the_whole_model(part, converted, tmp_path):
    whole = converted("llama3", "bf16")
    (tmp_path / "parts").mkdir()
    parts = split_in_parts(whole, tmp_path / "parts", 5)
    assert len(parts) > 2
    for name, path in (("whole", whole), ("split", parts[part])):
        write_gguf(plan_conversion(source_from_gguf(path), load_profile("q4_k_m")), tmp_path / name)
    assert (tmp_path / "split").read_bytes() == (tmp_path / "whole").read_bytes()
    assert source_from_gguf(parts[part]).name == "model"


@pytest.mark.parametrize(
    ("file", "stem"),
    [
        ("Name-5M-BF16.gguf", "Name-5M"),
        ("Name-5M-Q4_K_M.gguf", "Name-5M"),
        ("name.iq3_xxs.gguf", "name"),
        ("Name-MXFP4_MOE.gguf", "Name"),
        ("Name-v1.5.gguf", "Name-v1.5"),
        ("f16.gguf", "f16"),
        ("model", "model"),
    ],
)
def test_the_name_is_the_files_without_its_type(file, stem, converted, tmp_path):
    (tmp_path / file).symlink_to(converted("llama3", "bf16"))
    assert source_from_gguf(tmp_path / file).name == stem


@pytest.mark.parametrize("first", ["q4_k_m", "q2_k", "q4_0"])
def test_few_bits_are_refused_and_then_named(first, converted):
    path = converted("llama3", first)
    with pytest.raises(InputError, match=rf"{path.name} is quantized already \(.*Q\d.*--allow-requantize"):
        source_from_gguf(path)
    assert "Q" in source_from_gguf(path, allow_requantize=True).quantization


@pytest.mark.parametrize("first", ["q8_0", "q6_k", "f16", "f32"])
def test_many_bits_need_no_permission(first, converted):
    assert source_from_gguf(converted("llama3", first)).warnings == ()


def test_a_file_that_is_no_model_is_refused():
    with pytest.raises(GgufError, match=r"no general\.architecture; it is not a model"):
        traits_from_metadata({"general.type": string("imatrix")})


def test_numbers_given_for_every_block_count_as_that_of_the_first():
    heads = MetadataValue(ValueType.ARRAY, (8, 4, 4), ValueType.UINT32)
    metadata = {
        "general.architecture": string("openelm"),
        "openelm.block_count": uint32(3),
        "openelm.attention.head_count": heads,
    }
    traits = traits_from_metadata(metadata)
    assert (traits.n_layer, traits.n_head, traits.n_head_kv, traits.n_expert) == (3, 8, 8, 0)
