import pytest

from toolkit.checkpoint.config_spelling import normalise
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.errors import ConfigError


def test_null_means_absent():
    config = normalise({"rope_scaling": None, "head_dim": None, "hidden_size": 64})
    assert config.get("head_dim") is None
    assert config["rope"] == {"rope_type": "default"}


def test_old_and_new_spellings_of_rope_are_one():
    new = {"rope_parameters": {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0}}
    old = {"rope_theta": 500000.0, "rope_scaling": {"type": "llama3", "factor": 8.0}}
    assert normalise(new)["rope"] == normalise(old)["rope"]


def test_the_text_part_of_a_multimodal_config_moves_to_the_top():
    raw = {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "text_config": {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64},
        "vision_config": {"hidden_size": 1024},
    }
    config = normalise(raw)
    assert (config["architectures"], config["model_type"], config["hidden_size"]) == (["LlamaForCausalLM"], "llama", 64)


@pytest.mark.parametrize(
    ("alias", "key"), [("n_layer", "num_hidden_layers"), ("norm_eps", "rms_norm_eps"), ("n_embd", "hidden_size")]
)
def test_other_spellings_are_understood_but_do_not_win(alias, key):
    assert normalise({alias: 3})[key] == 3
    assert normalise({alias: 3, key: 4})[key] == 4


def test_a_missing_key_is_named_with_the_version_that_wrote_the_config():
    with pytest.raises(ConfigError, match=r"has no hidden_size, .* \(written by transformers 4.40.0\)"):
        normalise({"transformers_version": "4.40.0"})["hidden_size"]


def test_class_defaults_fill_in_and_may_follow_other_keys():
    config = ModelConfig({"num_attention_heads": 8}).filled_in(
        {"rms_norm_eps": 1e-6}, {}, {"num_key_value_heads": lambda config: config["num_attention_heads"]}
    )
    assert config.integer("num_key_value_heads") == 8
    assert config.number("rms_norm_eps") == 1e-6


def test_a_stored_value_counts_before_an_alias_that_before_a_default_and_that_before_what_follows():
    def read(values):
        config = ModelConfig(values).filled_in({"ff": 3}, {"ff": "mlp.width"}, {"ff": lambda _config: 4})
        return config.integer("ff")

    assert read({"ff": 1, "mlp": {"width": 2}}) == 1
    assert read({"mlp": {"width": 2}}) == 2
    assert read({"mlp": {"width": None}}) == 3
    assert ModelConfig({}).filled_in({}, {}, {"ff": lambda _config: 4}).integer("ff") == 4


def test_a_missing_value_is_named_as_the_family_spells_it():
    config = ModelConfig({}).filled_in({}, {"intermediate_size": "ffn_config.width"}, {})
    with pytest.raises(ConfigError, match=r"config.json has no ffn_config\.width, and there is no default for it"):
        config.integer("intermediate_size")


@pytest.mark.parametrize(
    ("read", "value", "message"),
    [
        (lambda config: config.integer("a", least=0), -1, "a is -1, expected a whole number from 0 on"),
        (lambda config: config.number("a"), "0.5", "a is '0.5', expected a number"),
        (lambda config: config.number("a"), float("nan"), "a is nan, expected a number"),
        (lambda config: config.positive_number("a"), 0, "a is 0, expected a number above 0"),
        (lambda config: config.flag("a"), 2, "a is 2, expected true or false"),
        (lambda config: config.flag("a"), "yes", "a is 'yes', expected true or false"),
        (lambda config: config.text("a"), 7, "a is 7, expected a text"),
        (lambda config: config.choice("a", ("mean", "cls")), "max", "a is 'max', expected 'mean' or 'cls'"),
        (lambda config: config.choice("a", ("mean", "cls")), ["cls"], r"a is \['cls'\], expected 'mean' or 'cls'"),
        (lambda config: config.integer_list("a"), [1, "2"], r"a is \[1, '2'\], expected a list of whole numbers"),
        (lambda config: config.number_list("a"), 1.5, "a is 1.5, expected a list of numbers"),
        (lambda config: config.number_list("a", length=2), [1.0], "a lists 1 numbers, expected 2"),
        (lambda config: config.flag_list("a"), [3], "expected a list of true and false, or 1 and 0"),
        (lambda config: config.text_list("a"), [None], r"a is \[None\], expected a list of texts"),
        (lambda config: config.section("a"), [], r"a is \[\], expected an object"),
        (lambda config: config.section_list("a"), [1], r"a is \[1\], expected a list of objects"),
        (lambda config: config.section("a").integer("b"), {"b": True}, "b of a is True, expected a positive integer"),
        (lambda config: config.section("a").section("b")["c"], {"b": {}}, "has no c of b of a"),
    ],
)
def test_a_read_names_the_key_what_it_is_and_what_was_expected(read, value, message):
    with pytest.raises(ConfigError, match=message):
        read(ModelConfig({"a": value}))


def test_reads_give_what_stands_there_and_else_what_the_caller_says():
    config = ModelConfig({"count": 0, "flag": 1, "names": ["a"], "sizes": [0, 2], "inside": {"x": None, "y": 2.5}})
    assert config.integer("count", least=0) == 0
    assert config.flag("flag") is True
    assert (config.text_list("names"), config.integer_list("sizes")) == (["a"], [0, 2])
    assert config.section("inside").number("y") == 2.5
    assert not config.section("inside").has("x")
    assert not config.section("absent").values
    assert config.integer("absent", 7) == 7
    assert config.flag("absent", False) is False
    assert config.text_list("absent", []) == []


@pytest.mark.parametrize("value", [0, -1, 2.5, "64", True, [64]])
def test_what_should_be_a_positive_integer_must_be_one(value):
    with pytest.raises(ConfigError, match="expected a positive integer"):
        normalise({"hidden_size": value}).integer("hidden_size")


def test_a_per_layer_value_is_refused_by_name():
    with pytest.raises(ConfigError, match="per-layer rope_theta is not supported for llama"):
        normalise({"rope_theta": [1e4, 5e5], "model_type": "llama"}).number("rope_theta")


def test_whole_floats_are_integers_wherever_they_stand():
    raw = {
        "head_dim": 128.0,
        "rope_scaling": {"type": "yarn", "original_max_position_embeddings": 4096.0, "factor": 2.5},
        "layers": [1.0, {"heads": 2.0}],
        "text_config": {"hidden_size": 64.0},
        "rms_norm_eps": 1e-6,
        "large": 1e300,
        "odd": [float("nan"), float("inf")],
    }
    config = normalise(raw)
    assert repr(config["head_dim"]) == "128"
    assert repr(config["rope"]["original_max_position_embeddings"]) == "4096"
    assert repr(config["layers"]) == "[1, {'heads': 2}]"
    assert config.integer("hidden_size") == 64
    assert repr([config["rope"]["factor"], config["rms_norm_eps"], config["large"]]) == "[2.5, 1e-06, 1e+300]"
    assert repr(config["odd"]) == "[nan, inf]"


@pytest.mark.parametrize(
    ("key", "most"), [("num_hidden_layers", 512), ("num_local_experts", 1024), ("num_decoder_layers", 512)]
)
def test_a_count_that_no_model_has_is_refused_before_anything_is_as_long_as_that(key, most):
    assert normalise({key: most}).integer(key) == most
    with pytest.raises(ConfigError, match=f"{key} is {most + 1}, but no model has more than {most}"):
        normalise({key: most + 1}).integer(key)


def test_a_config_that_is_nested_deeper_than_any_setting_is_no_error():
    nested = 1.0
    for _ in range(900):
        nested = [nested]
    assert normalise({"a": nested, "hidden_size": 64.0}).integer("hidden_size") == 64


def test_what_the_text_part_says_wins_over_the_whole():
    config = normalise({"hidden_size": 1024, "vocab_size": 9, "text_config": {"hidden_size": 64, "vocab_size": None}})
    assert (config["hidden_size"], config["vocab_size"]) == (64, 9)
