"""A config alone against the checkpoint that it belongs to."""

import json

import pytest
from compare import KIT
from kit_cases import CASES
from odd_values import places, with_value

from toolkit.conversion.convert import write_gguf
from toolkit.conversion.tensor_plan import plan_conversion
from toolkit.errors import CheckpointError, ConfigError, InputError, ToolkitError
from toolkit.gguf.layout import lay_out
from toolkit.quant_profile import load_profile
from toolkit.sources.config_source import source_from_config
from toolkit.sources.hf_source import source_from_checkpoint

WEIGHTS_DECIDE = ("deepseek_v3", "falcon_new", "glm4_moe_lite", "qwen3_next")
"""where nothing in the config tells whether a tensor, or a block that predicts further tokens, is stored"""


@pytest.mark.parametrize("case", [case for case in CASES if case not in WEIGHTS_DECIDE])
def test_shapes_and_metadata_are_those_of_the_checkpoint(case, kit_checkpoint):
    directory = kit_checkpoint(case)
    alone, whole = source_from_config(directory), source_from_checkpoint(directory)
    assert {tensor.name: tensor.shape for tensor in alone.tensors} == {
        tensor.name: tensor.shape for tensor in whole.tensors
    }
    # xielu.* are numbers that Apertus stores as weights; how embeddings are pooled stands in files of their own.
    beside = ("general.", "tokenizer.", "xielu.", "bert.pooling_type")
    model_keys = [key for key in whole.metadata if not key.startswith(beside)]
    assert alone.metadata.keys() >= set(model_keys)
    assert [key for key in model_keys if alone.metadata.get(key) != whole.metadata[key]] == []
    assert alone.traits == whole.traits


def test_a_conversion_of_it_is_refused(kit_checkpoint, tmp_path):
    plan = plan_conversion(source_from_config(kit_checkpoint("llama3")), load_profile("q8_0"))
    with pytest.raises(CheckpointError, match=r"has no weights: the model was described by its config\.json alone"):
        write_gguf(plan, tmp_path / "out.gguf")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_or_unknown_config_is_told(tmp_path):
    with pytest.raises(CheckpointError, match=r"config\.json does not exist"):
        source_from_config(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["NobodyForCausalLM"]}))
    with pytest.raises(ConfigError, match="NobodyForCausalLM is not supported"):
        source_from_config(tmp_path)


WRONG = ("x", [], {"x": 1})
OF_MANY_SHAPES = (
    "phi3", "lfm2_moe", "mpt", "dbrx", "falcon_h1", "gemma3n", "nemotron_h", "granitemoehybrid", "jamba", "t5", "minimax_m2",
    "deepseek_v2", "gemma3_multimodal", "hunyuan", "qwen3_5",
)  # fmt: skip
"""whose configs hold lists, objects and numbers that only their family has"""


@pytest.mark.parametrize("case", OF_MANY_SHAPES)
def test_a_value_of_any_kind_is_refused_in_words_or_read(case, tmp_path):
    content = json.loads((KIT / "sources" / case / "config.json").read_text(encoding="utf-8"))
    refused = 0
    for place in places(content):
        for value in WRONG:
            (tmp_path / "config.json").write_text(json.dumps(with_value(content, place, value)), encoding="utf-8")
            try:
                source_from_config(tmp_path)
            except ToolkitError:
                refused += 1
    assert refused > len(content)


@pytest.mark.parametrize(
    ("case", "changes", "message"),
    [
        ("dbrx", {"attn_config": 7}, "attn_config is 7, expected an object"),
        ("lfm2_moe", {"num_dense_layers": "two"}, "num_dense_layers is 'two', expected a whole number from 0 on"),
        ("falcon_h1", {"mlp_multipliers": []}, "mlp_multipliers lists 0 numbers, expected 2"),
        ("llama3", {"rope_theta": 0}, "rope_theta is 0, expected a number above 0"),
        ("minicpm", {"dim_model_base": 0}, "dim_model_base is 0, expected a number above 0"),
        ("phi3", {"original_max_position_embeddings": 1}, "scaling is 1, expected a whole number from 2 on"),
        ("qwen3_5", {"linear_num_value_heads": 3}, "is 3, expected a multiple of linear_num_key_heads, which is 2"),
        ("glm4", {"partial_rotary_factor": 1.5}, "partial_rotary_factor is 1.5, expected a number from 0 to 1"),
        (
            "gemma3n",
            {"activation_sparsity_pattern": [1.0, 0.0]},
            "activation_sparsity_pattern has 1, expected numbers below 1",
        ),
        ("mpt", {"attn_config": None}, "config.json has no attn_config"),
        ("lfm2", {"layer_types": ["conv"]}, "layer_types names 1 layers, but there is a layer 1"),
    ],
)
def test_the_key_of_a_value_of_another_kind_is_named(case, changes, message, tmp_path):
    content = json.loads((KIT / "sources" / case / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps(content | changes), encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        source_from_config(tmp_path)


@pytest.mark.parametrize(
    ("case", "changes", "message"),
    [
        ("t5", {"num_decoder_layers": 2**31 - 1}, "num_decoder_layers is 2147483647, but no model has more than 512"),
        ("llama3", {"hidden_size": 2**31 - 1}, "hidden_size is 2147483647, but no model has more than"),
        ("llama3", {"head_dim": 2**31 - 1}, "head_dim is 2147483647, but no model has more than"),
        (
            "qwen3_next",
            {"linear_num_key_heads": 2**20},
            "linear_num_key_heads is 1048576, but no model has more than 2048",
        ),
        ("mixtral", {"num_local_experts": 65535}, "num_local_experts is 65535, but no model has more than 1024"),
        ("mixtral", {"num_local_experts": 1024, "num_hidden_layers": 512}, "describes more than 524,288 tensors"),
    ],
)
def test_a_count_that_would_take_ages_is_refused_by_its_key(case, changes, message, tmp_path):
    content = json.loads((KIT / "sources" / case / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps(content | changes), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        source_from_config(tmp_path)


def as_floats(value):
    if isinstance(value, dict):
        return {key: as_floats(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_floats(item) for item in value]
    return float(value) if type(value) is int else value


@pytest.mark.parametrize("case", CASES)
def test_whole_floats_mean_the_integers_that_they_are_in_every_config(case, tmp_path):
    content = json.loads((KIT / "sources" / case / "config.json").read_text(encoding="utf-8"))
    described = []
    for document in (content, as_floats(content)):
        (tmp_path / "config.json").write_text(json.dumps(document), encoding="utf-8")
        source = source_from_config(tmp_path)
        shapes = {tensor.name: tensor.shape for tensor in source.tensors}
        described.append((lay_out(source.metadata, []).header, shapes, source.traits))
    assert described[0] == described[1]
