"""`convert-lora` through the real command."""

import json
import os
import shutil

import numpy
import pytest
from editable_checkpoint import edit_case, read_safetensors, write_safetensors
from hub_server import Hub, serve
from lora_adapters import AdapterShape, make_adapter

from toolkit.gguf.reader import read_gguf


@pytest.fixture
def base(tmp_path):
    return edit_case("llama3", tmp_path)


def adapter_of(base, folder, **changes):
    return make_adapter(base, folder / "my-adapter", AdapterShape(("q_proj", "k_proj")), **changes)


def test_the_base_that_the_adapter_names_is_taken(base, run_command, tmp_path):
    adapter = adapter_of(base, tmp_path, base_model_name_or_path=str(base.directory))
    done = run_command("convert-lora", adapter, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [f"base: {base.directory}, as adapter_config.json says"]
    document = json.loads(done.stdout)
    file = read_gguf(tmp_path / document["output"])
    assert (document["output"], document["file_bytes"]) == ("My-Adapter-F32-LoRA.gguf", file.file_bytes)
    assert (document["architecture"], document["alpha"]) == ("llama", 8.0)
    assert [tensor["name"] for tensor in document["tensors"]] == list(file.tensors)
    again = run_command("convert-lora", adapter, "--base", base.directory / "config.json", cwd=tmp_path)
    assert (again.returncode, "exists; give another name, or --force" in again.stderr) == (2, True)


def test_an_adapter_that_names_no_base_and_one_given_to_convert_come_with_advice(base, run_command, tmp_path):
    adapter = adapter_of(base, tmp_path)
    nameless = run_command("convert-lora", adapter)
    assert (nameless.returncode, "name the base with --base" in nameless.stderr) == (2, True)
    converted = run_command("convert", adapter, tmp_path / "x.gguf")
    assert (converted.returncode, "not a model: use `convert-lora`" in converted.stderr) == (2, True)


def test_adapter_and_base_may_be_on_the_hub_and_of_the_base_only_the_config_is_fetched(base, run_command, tmp_path):
    adapter = adapter_of(base, tmp_path, base_model_name_or_path="some/base")
    shutil.copyfile(base.directory / "tokenizer.json", adapter / "tokenizer.json")
    with serve(Hub({"some/base": base.directory, "some/adapter": adapter})) as hub:
        environment = os.environ | hub.environment | {"HF_HOME": str(tmp_path / "cache")}
        done = run_command("convert-lora", "some/adapter", tmp_path / "a.gguf", env=environment)
    assert done.returncode == 0, done.stderr
    assert hub.served["adapter_model.safetensors"] == (adapter / "adapter_model.safetensors").stat().st_size
    assert hub.served.keys() == {"adapter_model.safetensors", "adapter_config.json", "config.json", "tokenizer.json"}
    assert read_gguf(tmp_path / "a.gguf").metadata["general.name"].value == "Adapter"


def test_whole_weights_beside_the_pairs_stop_the_command_unless_they_are_left_out(base, run_command, tmp_path):
    adapter = adapter_of(base, tmp_path, base_model_name_or_path=str(base.directory))
    file = adapter / "adapter_model.safetensors"
    norm = ("F32", numpy.ones(256, "f4"))
    write_safetensors(file, read_safetensors(file) | {"base_model.model.model.norm.weight": norm})
    refused = run_command("convert-lora", adapter, tmp_path / "a.gguf")
    assert (refused.returncode, "replaces whole weights (model.norm)" in refused.stderr) == (2, True)
    assert not (tmp_path / "a.gguf").exists()
    done = run_command("convert-lora", adapter, tmp_path / "a.gguf", "--leave-out-whole-weights", "--json")
    assert (done.returncode, json.loads(done.stdout)["left_out"]) == (0, ["model.norm"])
    assert "left out whole weights, which llama.cpp cannot apply: model.norm" in done.stderr


def test_an_adapter_of_mlx_is_told_apart_and_converted(base, run_command, tmp_path):
    (tmp_path / "mlx").mkdir()
    config = {"fine_tune_type": "lora", "model": str(base.directory), "lora_parameters": {"rank": 2, "scale": 10.0}}
    (tmp_path / "mlx" / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    module = "model.layers.1.self_attn.o_proj"
    a, b = numpy.ones((256, 2), "f4"), numpy.ones((2, 256), "f4")
    write_safetensors(
        tmp_path / "mlx" / "adapters.safetensors", {f"{module}.lora_a": ("F32", a), f"{module}.lora_b": ("F32", b)}
    )
    given = run_command("convert", tmp_path / "mlx", tmp_path / "x.gguf")
    assert (given.returncode, f"is a LoRA adapter of {base.directory}" in given.stderr) == (2, True)
    done = run_command("convert-lora", tmp_path / "mlx", tmp_path / "x.gguf", "--json")
    assert (done.returncode, json.loads(done.stdout)["alpha"]) == (0, 20.0), done.stderr
