"""Configs as they are published: by old and new versions, by hand, incomplete, or at odds with the weights."""

import json
import re

import numpy
import pytest
from editable_checkpoint import edit_case
from twins import changed_case, convert_edited, file_of, gguf_of, value

from toolkit.errors import CheckpointError, ConfigError, TensorError
from toolkit.gguf.reader import read_gguf
from toolkit.sources.hf_source import source_from_checkpoint
from toolkit.verification.file_check import check_loads

RANDOM = numpy.random.default_rng(7)


def bf16(*shape):
    return "BF16", RANDOM.integers(0x3C00, 0x3D00, shape, dtype=numpy.uint16)


def settings(**changes):
    """Return a change of config.json: a key given as ... is removed."""

    def change(checkpoint):
        for key, new in changes.items():
            checkpoint.config.pop(key, None)
            if new is not ...:
                checkpoint.config[key] = new

    return change


@pytest.mark.parametrize("case", ["llama3", "qwen2"])
def test_a_list_of_end_tokens_never_becomes_an_array(case, tmp_path):
    plain = gguf_of(case, tmp_path / "a")
    listed = gguf_of(case, tmp_path / "b", settings(eos_token_id=[387, 386]))
    assert isinstance(value(listed, "tokenizer.ggml.eos_token_id"), int)
    assert value(listed, "tokenizer.ggml.eos_token_id") == value(plain, "tokenizer.ggml.eos_token_id")


def test_rope_parameters_of_new_transformers_give_the_same_file(tmp_path):
    def modern(checkpoint):
        config = checkpoint.config
        config["rope_parameters"] = config.pop("rope_scaling") | {"rope_theta": config.pop("rope_theta")}
        config["dtype"] = config.pop("torch_dtype")

    plain = convert_edited(changed_case("llama3", tmp_path / "a"))
    assert file_of("llama3", tmp_path / "b", modern) == plain.read_bytes()
    assert read_gguf(plain).tensors["rope_freqs.weight"].shape == (32,)
    assert value(read_gguf(plain), "llama.rope.freq_base") == 500000.0


@pytest.mark.parametrize("case", ["llama2", "mistral", "qwen2", "qwen3", "smollm3"])
def test_null_is_absent(case, tmp_path):
    keys = ("rope_scaling", "sliding_window", "quantization_config", "pad_token_id", "attention_bias", "head_dim_of_x")
    absent = file_of(case, tmp_path / "a", settings(**dict.fromkeys(keys, ...)))
    assert file_of(case, tmp_path / "b", settings(**dict.fromkeys(keys))) == absent


@pytest.mark.parametrize("case", ["llama2", "mistral", "qwen2", "qwen3", "smollm3"])
@pytest.mark.parametrize("spelling", ["type", "rope_type"])
def test_yarn_and_linear_are_written_for_every_architecture(case, spelling, tmp_path):
    yarn = {spelling: "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
    file = gguf_of(case, tmp_path / "a", settings(rope_scaling=yarn))
    name = value(file, "general.architecture")
    assert value(file, f"{name}.rope.scaling.type") == "yarn"
    assert value(file, f"{name}.rope.scaling.factor") == 4.0
    assert value(file, f"{name}.rope.scaling.original_context_length") == 32768
    linear = gguf_of(case, tmp_path / "b", settings(rope_scaling={spelling: "linear", "factor": 4}))
    assert value(linear, f"{name}.rope.scaling.type") == "linear"
    assert value(linear, f"{name}.rope.scaling.factor") == 4.0


@pytest.mark.parametrize(
    ("rope", "message"),
    [
        ({"rope_scaling": {"type": "spiral", "factor": 2.0}}, "rope type 'spiral' is not supported here"),
        ({"rope_scaling": {"factor": 2.0}}, r"has a factor \(2.0\) but no type that would use it"),
        ({"rope_scaling": "linear"}, "rope_scaling is 'linear', expected an object"),
        ({"rope_parameters": {"full_attention": {"rope_theta": 1e6}}}, "of their own for 'full_attention'"),
        ({"rope_theta": [10000.0, 500000.0]}, "per-layer rope_theta is not supported for llama"),
        ({"rope_theta": ..., "rope_parameters": {"rope_theta": [1e4, 5e5]}}, "per-layer rope_theta is not supported"),
        ({"rope_theta": "10000"}, "rope_theta of the rope scaling is '10000', expected a number"),
    ],
)
def test_rope_that_would_be_dropped_is_refused(rope, message, tmp_path):
    directory = changed_case("llama2", tmp_path, settings(**rope))
    with pytest.raises(ConfigError, match=message):
        source_from_checkpoint(directory)


def test_a_null_head_dim_is_hidden_size_over_heads(tmp_path):
    file = gguf_of("llama2", tmp_path, settings(head_dim=None))
    assert value(file, "llama.rope.dimension_count") == 64


def test_heads_of_another_length_are_permuted_by_that_length(tmp_path):
    q = bf16(4 * 32, 256)

    def short_heads(checkpoint):
        checkpoint.config["head_dim"] = 32
        for layer in range(2):
            for name, shape in (("q", (128, 256)), ("k", (128, 256)), ("v", (128, 256)), ("o", (256, 128))):
                checkpoint.tensors[f"model.layers.{layer}.self_attn.{name}_proj.weight"] = bf16(*shape)
        checkpoint.tensors["model.layers.0.self_attn.q_proj.weight"] = q

    file = gguf_of("llama2", tmp_path, short_heads)
    for key in ("attention.key_length", "attention.value_length", "rope.dimension_count"):
        assert value(file, f"llama.{key}") == 32
    stored = file.tensors["blk.0.attn_q.weight"].read_rows(0, 128).copy().view(numpy.uint16)
    assert numpy.array_equal(stored, q[1].reshape(4, 2, 16, 256).swapaxes(1, 2).reshape(128, 256))


def test_a_llama_1_config_gets_the_defaults_of_its_class(tmp_path):
    keys = (
        "num_key_value_heads",
        "rope_theta",
        "rms_norm_eps",
        "tie_word_embeddings",
        "max_position_embeddings",
        "hidden_act",
    )
    file = gguf_of("llama2", tmp_path, settings(**dict.fromkeys(keys, ...)))
    assert value(file, "llama.attention.head_count_kv") == 4
    assert value(file, "llama.rope.freq_base") == 10000.0
    assert value(file, "llama.attention.layer_norm_rms_epsilon") == pytest.approx(1e-6)
    assert value(file, "llama.context_length") == 2048
    assert "output.weight" in file.tensors


@pytest.mark.parametrize("key", ["num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads"])
def test_a_key_without_a_default_is_named_with_the_version_that_wrote_the_config(key, tmp_path):
    directory = changed_case("llama2", tmp_path, settings(**{key: ..., "transformers_version": "4.99.0"}))
    message = rf"config.json has no {key}, and there is no default for it \(written by transformers 4.99.0\)"
    with pytest.raises(ConfigError, match=message):
        source_from_checkpoint(directory)


def test_a_key_that_moved_into_an_unknown_nested_part_is_named_not_guessed(tmp_path):
    def nested(checkpoint):
        size = checkpoint.config.pop("intermediate_size")
        checkpoint.config = {
            "model_type": "llama",
            "transformers_version": "5.99.0",
            "text_config": checkpoint.config | {"per_layer_config": {"intermediate_size": size}},
        }

    directory = changed_case("llama2", tmp_path, nested)
    with pytest.raises(ConfigError, match=r"has no intermediate_size.*transformers 5.99.0"):
        source_from_checkpoint(directory)


@pytest.mark.parametrize("named", [..., None, []])
def test_the_model_type_decides_where_no_class_is_named(named, tmp_path):
    directory = changed_case("llama2", tmp_path / "a", settings(architectures=named))
    assert any("taken as LlamaForCausalLM" in warning for warning in source_from_checkpoint(directory).warnings)
    assert convert_edited(directory).read_bytes() == file_of("llama2", tmp_path / "b")


@pytest.mark.parametrize(
    ("named", "model_type"), [(["FooForCausalLM"], "llama"), ([], "foo"), ("LlamaForCausalLM", ...), ([7], ...)]
)
def test_an_unknown_architecture_lists_the_known_and_the_nearest(named, model_type, tmp_path):
    directory = changed_case("llama2", tmp_path, settings(architectures=named, model_type=model_type))
    with pytest.raises(ConfigError, match=r"is not supported; the nearest is \w+; known: .*LlamaForCausalLM"):
        source_from_checkpoint(directory)


VISION = {
    "vision_tower.encoder.layers.0.self_attn.q_proj.weight": bf16(8, 8),
    "vision_tower.embeddings.position_ids": ("I64", numpy.arange(4)),
    "multi_modal_projector.linear_1.weight": bf16(8, 8),
}


@pytest.mark.parametrize("case", ["llama2", "qwen2", "smollm3"])
@pytest.mark.parametrize(
    ("decoder", "output", "vision"),
    [
        ("language_model.model.", "language_model.lm_head.", ""),
        ("model.language_model.", "lm_head.", "model."),
        ("language_model.", "lm_head.", ""),
    ],
)
def test_the_text_model_of_a_multimodal_checkpoint_is_the_plain_one(case, decoder, output, vision, tmp_path):
    def multimodal(checkpoint):
        checkpoint.rename("lm_head.", output)
        checkpoint.rename("model.", decoder)
        checkpoint.tensors |= {vision + name: tensor for name, tensor in VISION.items()}
        text = {key: setting for key, setting in checkpoint.config.items() if key != "architectures"}
        checkpoint.config = {
            "architectures": ["LlavaForConditionalGeneration"],
            "model_type": "llava",
            "text_config": text,
            "vision_config": {"hidden_size": 8, "num_hidden_layers": 1, "model_type": "clip_vision_model"},
        }

    directory = changed_case(case, tmp_path / "a", multimodal)
    warnings = source_from_checkpoint(directory).warnings
    assert [warning for warning in warnings if "left out" in warning] == [
        "left out 3 tensors (288 B): vision or audio tensors"
    ]
    assert convert_edited(directory).read_bytes() == file_of(case, tmp_path / "b")


@pytest.mark.parametrize("prefix", ["mtp.", "model.mtp."])
def test_a_multi_token_prediction_head_is_left_out_with_its_size(prefix, tmp_path):
    def with_head(checkpoint):
        checkpoint.tensors[f"{prefix}fc.weight"] = bf16(256, 512)
        checkpoint.tensors[f"{prefix}layers.0.self_attn.q_proj.weight"] = bf16(256, 256)

    directory = changed_case("qwen3", tmp_path / "a", with_head)
    assert any(
        re.match(r"left out 2 tensors \(384 KiB\): multi-token prediction head", warning)
        for warning in source_from_checkpoint(directory).warnings
    )
    assert convert_edited(directory).read_bytes() == file_of("qwen3", tmp_path / "b")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"intermediate_size": 2048},
            r"gate_proj.weight has shape \[256, 256\], but config.json implies \[2048, 256\] \(intermediate_size = 2048\)",
        ),
        (
            {"num_key_value_heads": 2},
            r"k_proj.weight has shape \[256, 256\], but .* \[128, 256\] \(num_key_value_heads x hidden_size / num_att",
        ),
        ({"hidden_size": 128}, r"embed_tokens.weight has shape \[400, 256\], but .* \(hidden_size = 128\)"),
        ({"num_attention_heads": 8, "num_key_value_heads": 8, "head_dim": 64}, r"q_proj.weight has shape"),
    ],
)
def test_a_config_that_the_weights_contradict_is_refused_with_tensor_shapes_and_key(change, message, tmp_path):
    directory = changed_case("llama2", tmp_path, settings(**change))
    with pytest.raises(TensorError, match=message):
        source_from_checkpoint(directory)


@pytest.mark.parametrize("alias", ["norm_eps", "rms_norm_epsilon", "layer_norm_epsilon", "layer_norm_eps"])
def test_a_norm_epsilon_of_another_name_counts_and_the_file_loads(alias, tmp_path):
    path = convert_edited(changed_case("llama2", tmp_path, settings(**{"rms_norm_eps": ..., alias: 3e-5})))
    assert value(read_gguf(path), "llama.attention.layer_norm_rms_epsilon") == pytest.approx(3e-5)
    check_loads(path)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "generation_config.json", "tokenizer.json"])
def test_a_byte_order_mark_and_line_ends_of_windows_change_nothing(name, tmp_path):
    def of_windows(directory):
        path = directory / name
        text = path.read_text(encoding="utf-8") if path.exists() else '{"temperature": 0.5}'
        path.write_bytes(b"\xef\xbb\xbf" + json.dumps(json.loads(text), indent=1).replace("\n", "\r\n").encode())

    directory, plain = changed_case("llama3", tmp_path / "a"), changed_case("llama3", tmp_path / "b")
    if name == "generation_config.json":
        (plain / name).write_text('{"temperature": 0.5}', encoding="utf-8")
    of_windows(directory)
    assert convert_edited(directory).read_bytes() == convert_edited(plain).read_bytes()


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer_config.json"])
def test_utf_16_is_refused_with_the_reason(name, tmp_path):
    directory = changed_case("llama3", tmp_path)
    (directory / name).write_text("{}", encoding="utf-16")
    with pytest.raises(CheckpointError, match=f"{name} is UTF-16; save it as UTF-8"):
        source_from_checkpoint(directory)


@pytest.mark.parametrize(
    "card",
    [
        b"---\nlicense: mit\ntags: [a, 1, no]\nlanguage: no\nversion: 1.5\nbase_model: org/Base-7B\n---\n# Model",
        b"---\nname: [unclosed\n---\n",
        b"---\n- a list\n---\n",
        b"\xff\xfe not text",
        b"---\nname:\ntags:\ndatasets:\n---\n",
        b"\xef\xbb\xbf---\r\nname: Bom\r\n---\r\n",
        b"",
    ],
)
def test_a_model_card_of_any_kind_is_no_reason_to_fail(card, tmp_path):
    directory = changed_case("llama2", tmp_path)
    (directory / "README.md").write_bytes(card)
    assert value(read_gguf(convert_edited(directory)), "general.name")


def test_sampling_defaults_of_the_wrong_type_are_left_out(tmp_path):
    directory = changed_case("llama2", tmp_path)
    text = '{"temperature": "hot", "top_k": 40.0, "top_p": null, "min_p": true, "repetition_penalty": 1.1}'
    (directory / "generation_config.json").write_text(text, encoding="utf-8")
    file = read_gguf(convert_edited(directory))
    found = {key: found.value for key, found in file.metadata.items() if key.startswith("general.sampling")}
    assert found == {"general.sampling.top_k": 40, "general.sampling.penalty_repeat": pytest.approx(1.1)}


@pytest.mark.parametrize("name", ["模型 Ž é", "it's a model", "Name-7B-Instruct-v2", "x" * 200])
def test_a_directory_of_any_name_converts(name, tmp_path):
    directory = edit_case("llama2", tmp_path).save().rename(tmp_path / name)
    path = convert_edited(directory)
    check_loads(path)
    assert value(read_gguf(path), "general.name")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_position_embeddings": 2**40}, "max_position_embeddings is 1099511627776, expected a positive integer"),
        ({"max_position_embeddings": "8192"}, "max_position_embeddings is '8192', expected a positive integer"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps is nan, expected a number"),
        ({"rms_norm_eps": 1e300}, "rms_norm_eps is 1e[+]300, expected a number"),
        ({"rope_theta": float("inf")}, "rope_theta of the rope scaling is inf, expected a number"),
        ({"rope_scaling": {"type": "yarn", "factor": True}}, "factor of the rope scaling is True, expected a number"),
        (
            {"rope_scaling": {"type": "yarn", "factor": 2, "original_max_position_embeddings": "8k"}},
            "original_max_position_embeddings of the rope scaling is '8k'",
        ),
        (
            {"rope_scaling": {"rope_type": "llama3", "low_freq_factor": 4.0, "high_freq_factor": 4.0}},
            "needs a positive factor and low_freq_factor < high_freq_factor, found 8, 4 and 4",
        ),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"text_config": [1]}, "text_config is not an object"),
        ({"num_local_experts": "8"}, "num_local_experts is '8', expected a positive integer"),
    ],
)
def test_a_value_that_no_gguf_key_can_hold_is_refused(changes, message, tmp_path):
    directory = changed_case("llama2", tmp_path, settings(**changes))
    with pytest.raises(ConfigError, match=message):
        source_from_checkpoint(directory)


@pytest.mark.parametrize("case", ["llama3", "qwen3", "gemma2", "deepseek_v2", "xlm_roberta", "falcon_h1", "mamba2"])
def test_whole_floats_give_the_file_that_integers_give(case, tmp_path):
    def as_floats(value):
        if isinstance(value, dict):
            return {key: as_floats(item) for key, item in value.items()}
        if isinstance(value, list):
            return [as_floats(item) for item in value]
        return float(value) if type(value) is int else value

    plain, floats = changed_case(case, tmp_path / "a"), changed_case(case, tmp_path / "b")
    config = json.loads((floats / "config.json").read_text(encoding="utf-8"))
    (floats / "config.json").write_text(json.dumps(as_floats(config)), encoding="utf-8")
    assert convert_edited(floats).read_bytes() == convert_edited(plain).read_bytes()


@pytest.mark.parametrize(
    ("case", "changes", "named"),
    [
        ("llama3", {"head_dim": 32.5}, "head_dim"),
        ("mixtral", {"num_experts_per_tok": 1.5}, "num_experts_per_tok"),
        ("xlm_roberta", {"pad_token_id": -1e308}, "pad_token_id"),
        ("xlm_roberta", {"pad_token_id": 10**39}, "pad_token_id"),
    ],
)
def test_a_number_that_is_not_whole_or_out_of_range_is_refused_by_its_key(case, changes, named, tmp_path):
    with pytest.raises(ConfigError, match=f"config.json: {named} is "):
        convert_edited(changed_case(case, tmp_path, settings(**changes)))
