"""`toolkit.convert_lora`, as a Python user calls it."""

import pytest
from editable_checkpoint import edit_case
from lora_adapters import AdapterShape, make_adapter

import toolkit
from toolkit.errors import InputError
from toolkit.gguf.reader import read_gguf


@pytest.fixture
def base(tmp_path):
    return edit_case("llama3", tmp_path)


@pytest.fixture
def adapter(base, tmp_path):
    return make_adapter(base, tmp_path / "my-adapter", AdapterShape(("q_proj", "k_proj")))


def test_an_adapter_becomes_a_file_for_its_base(base, adapter, tmp_path):
    result = toolkit.convert_lora(str(adapter), str(tmp_path / "a.gguf"), base=str(base.directory), type_="f16")
    file = read_gguf(tmp_path / "a.gguf")
    assert (result.output, result.plan.file_bytes, result.left_out) == (tmp_path / "a.gguf", file.file_bytes, ())
    assert list(file.tensors) == [tensor.name for tensor in result.plan.tensors]
    assert {rows.type.name for rows in file.tensors.values()} == {"F16"}


def test_without_a_base_there_is_nothing_to_convert_for(adapter, tmp_path):
    with pytest.raises(InputError, match="names no base_model_name_or_path"):
        toolkit.convert_lora(adapter, tmp_path / "a.gguf")
    assert not (tmp_path / "a.gguf").exists()


def test_a_reporter_hears_which_base_the_adapter_names(base, heard, tmp_path):
    adapter = make_adapter(
        base, tmp_path / "named", AdapterShape(("q_proj",)), base_model_name_or_path=str(base.directory)
    )
    toolkit.convert_lora(toolkit.ConvertLoraRequest(adapter, tmp_path / "a.gguf"), heard)
    assert heard.notes == [f"base: {base.directory}, as adapter_config.json says"]
