"""Experts are stored one by one or all in one tensor; the file is the same."""

import numpy
import pytest
from twins import changed_case, file_of, gguf_of, value

from toolkit.errors import ConfigError, TensorError
from toolkit.sources.hf_source import source_from_checkpoint

N_EXPERT, PREFIX = 64, "model.layers.0.mlp.experts."


def stack(checkpoint):
    """Store the experts as transformers 5 does: gate above up in one tensor [E, 2I, H], down in one [E, H, I]."""
    gate, up, down = (
        numpy.stack([checkpoint.tensors.pop(f"{PREFIX}{expert}.{name}.weight")[1] for expert in range(N_EXPERT)])
        for name in ("gate_proj", "up_proj", "down_proj")
    )
    checkpoint.tensors[f"{PREFIX}gate_up_proj"] = ("BF16", numpy.concatenate([gate, up], axis=1))
    checkpoint.tensors[f"{PREFIX}down_proj"] = ("BF16", down)


def test_stacked_experts_give_the_same_file_as_single_ones(tmp_path):
    assert file_of("qwen3_moe", tmp_path / "stacked", stack) == file_of("qwen3_moe", tmp_path / "single")


def test_a_missing_expert_is_named(tmp_path):
    directory = changed_case("qwen3_moe", tmp_path, lambda one: one.tensors.pop(f"{PREFIX}17.up_proj.weight"))
    with pytest.raises(TensorError, match=r"experts\.17\.up_proj\.weight is missing"):
        source_from_checkpoint(directory)


def test_an_expert_too_many_has_no_place(tmp_path):
    def add(checkpoint):
        checkpoint.tensors[f"{PREFIX}64.up_proj.weight"] = checkpoint.tensors[f"{PREFIX}0.up_proj.weight"]

    with pytest.raises(TensorError, match=r"experts\.64\.up_proj\.weight has no place"):
        source_from_checkpoint(changed_case("qwen3_moe", tmp_path, add))


def test_an_expert_of_another_shape_is_named_with_the_key(tmp_path):
    directory = changed_case("qwen3_moe", tmp_path, lambda one: one.config.update(moe_intermediate_size=32))
    with pytest.raises(TensorError, match=r"experts\.0\.gate_proj\.weight has shape .*moe_intermediate_size = 32"):
        source_from_checkpoint(directory)


def test_both_forms_side_by_side_are_refused(tmp_path):
    def both(checkpoint):
        single = dict(checkpoint.tensors)
        stack(checkpoint)
        checkpoint.tensors |= single

    with pytest.raises(TensorError, match=r"experts\.(gate_up|down)_proj has no place"):
        source_from_checkpoint(changed_case("qwen3_moe", tmp_path, both))


@pytest.mark.parametrize(
    ("case", "changes", "message"),
    [
        ("qwen3_moe", {"mlp_only_layers": [0]}, r"mlp_only_layers is \[0\]"),
        ("qwen2_moe", {"decoder_sparse_step": 2}, "decoder_sparse_step is 2"),
        ("dots1", {"scoring_func": "noaux_tc"}, "router function 'noaux_tc'"),
    ],
)
def test_mixtures_that_llama_cpp_does_not_run_are_refused(case, changes, message, tmp_path):
    directory = changed_case(case, tmp_path, lambda checkpoint: checkpoint.config.update(changes))
    with pytest.raises(ConfigError, match=message):
        source_from_checkpoint(directory)


def test_a_checkpoint_without_its_prediction_head_converts_without_it(tmp_path):
    def behead(checkpoint):
        checkpoint.tensors = {name: one for name, one in checkpoint.tensors.items() if not name.startswith("mtp.")}

    file = gguf_of("qwen3_next", tmp_path, behead)
    assert value(file, "qwen3next.block_count") == 2
    assert value(file, "qwen3next.nextn_predict_layers") is None


def test_glm_without_its_prediction_layers_converts_without_them(tmp_path):
    def behead(checkpoint):
        checkpoint.tensors = {name: one for name, one in checkpoint.tensors.items() if ".layers.2." not in name}

    file = gguf_of("glm4_moe", tmp_path, behead)
    assert value(file, "glm4moe.block_count") == 2
    assert value(file, "glm4moe.nextn_predict_layers") == 0


PROMISE = "layers that predict further tokens, but the checkpoint stores"


@pytest.mark.parametrize(("case", "layer"), [("glm4_moe", "model.layers.2."), ("qwen3_5", "mtp.")])
def test_prediction_layers_that_are_promised_and_not_stored_are_said_once(case, layer, tmp_path):
    def behead(checkpoint):
        checkpoint.tensors = {name: one for name, one in checkpoint.tensors.items() if not name.startswith(layer)}
        checkpoint.config["num_nextn_predict_layers"] = 1

    warnings = source_from_checkpoint(changed_case(case, tmp_path / "without", behead)).warnings
    assert [warning for warning in warnings if PROMISE in warning] == [
        f"config.json promises 1 {PROMISE} 0: the file has 0 and computes the same, only llama.cpp cannot draft tokens with "
        "the others"
    ]
    whole = source_from_checkpoint(changed_case(case, tmp_path / "whole"))
    assert not any(PROMISE in warning for warning in whole.warnings)


def test_the_prediction_layer_of_deepseek_is_left_out_and_only_where_the_config_promises_it(tmp_path):
    def add_layer(checkpoint, promised):
        checkpoint.config["num_nextn_predict_layers"] = promised
        last = {name: one for name, one in checkpoint.tensors.items() if ".layers.1." in name}
        checkpoint.tensors |= {name.replace(".layers.1.", ".layers.2."): one for name, one in last.items()}

    directory = changed_case("deepseek_v3", tmp_path / "promised", lambda one: add_layer(one, 1))
    assert any("predict further tokens" in note for note in source_from_checkpoint(directory).notes)
    directory = changed_case("deepseek_v3", tmp_path / "not", lambda one: add_layer(one, 0))
    with pytest.raises(TensorError, match=r"there are tensors of model\.layers\.2"):
        source_from_checkpoint(directory)
