"""Adapters as people publish them: of MLX, with training wrappers in their names, with whole weights, on a changed base."""

import json
from pathlib import Path

import numpy
import pytest
from editable_checkpoint import EditableCheckpoint, edit_case, read_safetensors, write_safetensors
from lora_adapters import ATTENTION, MLP, AdapterShape, make_adapter

from toolkit.conversion.convert import write_gguf
from toolkit.errors import CheckpointError, ConfigError, TensorError
from toolkit.lora import plan_adapter, read_adapter

PREFIX = "base_model.model."
EXPERTS = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}
"""Mixtral's names for an expert's matrices, and MLX's"""


@pytest.fixture
def base(tmp_path):
    return edit_case("llama3", tmp_path)


def file_of(adapter: Path, base: EditableCheckpoint, **options: bool) -> bytes:
    plan, _ = plan_adapter(read_adapter(adapter, **options), base.directory, "f32")
    output = adapter.parent / "adapter.gguf"
    write_gguf(plan, output)
    return output.read_bytes()


def change(adapter: Path, edit) -> Path:
    """Apply `edit` to the tensors of an adapter of PEFT."""
    file = adapter / "adapter_model.safetensors"
    tensors = read_safetensors(file)
    edit(tensors)
    write_safetensors(file, tensors)
    return adapter


def mlx_twin(adapter: Path, directory: Path, **settings: object) -> Path:
    """Write an adapter of PEFT, with lora_alpha 8 and rank 4, as MLX would have saved it."""
    directory.mkdir(parents=True)
    tensors = {}
    for name, (dtype, values) in read_safetensors(adapter / "adapter_model.safetensors").items():
        module, _, side = name.removeprefix(PREFIX).removesuffix(".weight").rpartition(".")
        tensors[f"{module}.lora_{side[-1].lower()}"] = (dtype, values.T.copy())
    write_safetensors(directory / "adapters.safetensors", stacked_experts(tensors))
    config = {"fine_tune_type": "lora", "model": "some/base", "num_layers": 2}
    config |= {"lora_parameters": {"rank": 4, "scale": 2.0, "dropout": 0.0}, **settings}
    (directory / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return directory


def stacked_experts(tensors):
    """Return the tensors with those of Mixtral's experts stacked, which MLX does not turn over."""
    result = {name: value for name, value in tensors.items() if ".experts." not in name}
    for name in tensors:
        before, found, after = name.partition(".experts.0.")
        if found:
            module, _, side = after.partition(".")
            parts = [tensors[f"{before}.experts.{expert}.{after}"] for expert in range(8)]
            values = numpy.stack([values.T for _, values in parts])
            result[f"{before}.switch_mlp.{EXPERTS[module]}.{side}"] = (parts[0][0], values)
    return result


@pytest.mark.parametrize(
    ("case", "modules"),
    [
        ("llama3", (*ATTENTION, *MLP)),
        ("llama2", ("q_proj", "embed_tokens", "lm_head")),
        ("mixtral", (*ATTENTION, "w1", "w2", "w3", "gate")),
    ],
)
def test_an_adapter_of_mlx_becomes_the_file_of_its_peft_twin(case, modules, tmp_path):
    base = edit_case(case, tmp_path)
    (tmp_path / "peft").mkdir()
    peft = make_adapter(base, tmp_path / "peft" / "mine", AdapterShape(modules))
    twin = mlx_twin(peft, tmp_path / "mlx" / "mine")
    assert read_adapter(twin).settings.base == "some/base"
    assert file_of(twin, base) == file_of(peft, base)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fine_tune_type": "dora"}, "fine_tune_type is 'dora'; only 'lora' can be applied .*mlx_lm.fuse"),
        ({"fine_tune_type": "full"}, "fine_tune_type is 'full'"),
        ({"use_dora": True}, r"DoRA \(use_dora\)"),
        ({"lora_parameters": {"rank": 4}}, "scale is None, expected a number above 0"),
        ({"lora_parameters": None}, "lora_parameters is None, expected an object"),
    ],
)
def test_other_tunes_of_mlx_are_refused_by_name(settings, message, base, tmp_path):
    adapter = make_adapter(base, tmp_path / "adapter", AdapterShape(("q_proj",)))
    with pytest.raises(ConfigError, match=message):
        read_adapter(mlx_twin(adapter, tmp_path / "mlx", **settings))


def test_tensors_of_mlx_that_are_no_such_matrices_are_refused(base, tmp_path):
    adapter = make_adapter(base, tmp_path / "adapter", AdapterShape(("q_proj",)))
    other_rank = {"lora_parameters": {"rank": 8, "scale": 2.0}}
    with pytest.raises(TensorError, match=r"lora_a has shape \[256, 4\], but adapter_config.json says rank 8"):
        read_adapter(mlx_twin(adapter, tmp_path / "rank", **other_rank))
    twin = mlx_twin(adapter, tmp_path / "magnitude")
    tensors = read_safetensors(twin / "adapters.safetensors")
    write_safetensors(twin / "adapters.safetensors", tensors | {"model.norm.m": ("F32", numpy.ones(4, "f4"))})
    with pytest.raises(TensorError, match=r"model\.norm\.m is neither lora_a nor lora_b"):
        read_adapter(twin)
    (twin / "adapters.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"has no adapters\.safetensors"):
        read_adapter(twin)


@pytest.mark.parametrize("started", ["pissa", "pissa_niter_16", "olora", "corda", "loftq", "lora_ga", "PiSSA"])
def test_an_adapter_that_changed_its_base_is_refused_with_two_ways_out(started, base, tmp_path):
    adapter = make_adapter(base, tmp_path / "adapter", AdapterShape(("q_proj",)), init_lora_weights=started)
    message = f"init_lora_weights is '{started}'.*path_initial_model_for_weight_conversion.*or merge it into its base"
    with pytest.raises(ConfigError, match=message):
        read_adapter(adapter)


@pytest.mark.parametrize("started", [True, False, None, "gaussian", "eva", "orthogonal", "mica"])
def test_an_adapter_that_left_its_base_alone_converts(started, base, tmp_path):
    plain = make_adapter(base, tmp_path / "adapter", AdapterShape(("q_proj",)))
    expected = file_of(plain, base)
    (tmp_path / "adapter.gguf").unlink()
    assert file_of(make_adapter(base, plain, AdapterShape(("q_proj",)), init_lora_weights=started), base) == expected


WHOLE = ("F32", numpy.ones(256, "f4"))


def with_norms(tensors):
    tensors[f"{PREFIX}model.layers.0.input_layernorm.weight"] = WHOLE
    tensors[f"{PREFIX}model.norm.modules_to_save.weight"] = WHOLE


def test_whole_weights_are_left_out_by_name_where_that_is_asked_for(base, tmp_path):
    adapter = make_adapter(base, tmp_path / "adapter", AdapterShape(("q_proj", "v_proj")))
    plain = file_of(adapter, base)
    (tmp_path / "adapter.gguf").unlink()
    change(adapter, with_norms)
    with pytest.raises(TensorError, match=r"replaces whole weights .*or leave them out \(--leave-out-whole-weights\)"):
        read_adapter(adapter)
    assert read_adapter(adapter, leave_out_whole=True).left_out == ("model.layers.0.input_layernorm", "model.norm")
    assert file_of(adapter, base, leave_out_whole=True) == plain


def test_biases_of_the_matrices_themselves_are_never_left_out(base, tmp_path):
    adapter = make_adapter(base, tmp_path / "adapter", AdapterShape(("q_proj",)))
    change(adapter, lambda tensors: tensors.update({f"{PREFIX}model.layers.0.self_attn.q_proj.lora_B.bias": WHOLE}))
    with pytest.raises(TensorError, match=r"q_proj\.lora_B"):
        read_adapter(adapter, leave_out_whole=True)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (PREFIX, f"_orig_mod.{PREFIX}"),
        (PREFIX, f"{PREFIX}_orig_mod."),
        (".layers.", "._fsdp_wrapped_module.layers."),
        (".self_attn.", "._checkpoint_wrapped_module.self_attn."),
        (".q_proj.", ".q_proj.module."),
    ],
)
def test_the_wrappers_of_training_are_taken_out_of_names(old, new, base, tmp_path):
    adapter = make_adapter(base, tmp_path / "adapter", AdapterShape(("q_proj",)))
    plain = file_of(adapter, base)
    (tmp_path / "adapter.gguf").unlink()

    def wrapped(tensors):
        for name in list(tensors):
            tensors[name.replace(old, new, 1)] = tensors.pop(name)

    assert file_of(change(adapter, wrapped), base) == plain


def test_a_pair_of_a_layer_that_predicts_further_tokens_is_no_pair_of_a_hidden_layer(tmp_path):
    base = edit_case("qwen3_5", tmp_path)
    adapter = make_adapter(base, tmp_path / "adapter", AdapterShape(("mtp.layers.0.mlp.down_proj",)))
    plan, _ = plan_adapter(read_adapter(adapter), base.directory, "f32")
    assert [tensor.name.rpartition(".")[0] for tensor in plan.tensors] == ["blk.2.ffn_down.weight"] * 2
