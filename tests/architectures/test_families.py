"""Families whose graphs in llama.cpp have something built in, or whose configs need reading."""

import pytest
from architectures.variants import VARIANTS
from twins import changed_case, gguf_of, value

from toolkit.errors import ConfigError, TensorError
from toolkit.sources.hf_source import source_from_checkpoint


@pytest.mark.parametrize(
    ("case", "changes", "message"),
    [
        ("gemma", {"tie_word_embeddings": False}, "tie_word_embeddings is False"),
        ("gemma2", {"hidden_activation": "relu", "hidden_act": "relu"}, "hidden_act 'relu'"),
        ("gemma3", {"sliding_window_pattern": 0}, "sliding_window_pattern is 0, expected a number above 0"),
        ("cohere2", {"sliding_window_pattern": [1]}, r"sliding_window_pattern is \[1\], expected"),
        ("falcon", {"alibi": True}, "alibi is True"),
        ("falcon", {"parallel_attn": False}, "parallel_attn is False"),
        ("stablelm", {"qk_layernorm": True}, "qk_layernorm is True"),
        ("olmoe", {"clip_qkv": 8.0}, "clip_qkv is 8;"),
        ("minicpm3", {"scale_emb": 10}, "scale_emb is 10"),
        ("hunyuan", {"max_position_embeddings": 4096}, "llama.cpp knows it for a base of 10000"),
        ("granitemoehybrid", {"position_embedding_type": "rope"}, "position_embedding_type is 'rope'"),
        ("bailing_moe", {"norm_head": True}, "norm_head is True"),
        (
            "phi3",
            {"rope_scaling": {"type": "longrope", "long_factor": [1.0]}},
            "long_factor of the rope scaling lists 1 numbers, expected 32",
        ),
    ],
)
def test_what_llama_cpp_would_run_wrongly_is_refused(case, changes, message, tmp_path):
    directory = changed_case(case, tmp_path, lambda checkpoint: checkpoint.config.update(changes))
    with pytest.raises(ConfigError, match=message):
        source_from_checkpoint(directory)


@pytest.mark.parametrize(
    ("variant", "changes", "message"),
    [
        ("glm", {"head_dim": 32}, "head_dim is 32, but llama.cpp runs this architecture with .* = 64 only"),
        ("smallthinker", {"sliding_window_size": 2048}, "windows, or with both, of 4096 tokens"),
        ("smallthinker", {"sliding_window_layout": [0, 0, 0, 0]}, "with rope everywhere and no windows"),
        ("nemotron_nas", {"block_configs": None}, "config.json has no block_configs"),
        ("nemotron_nas", {"block_configs": [{"attention": {}}]}, "does not describe attention and ffn of every layer"),
        ("nemotron3", {"moe_latent_size": 64}, "moe_latent_size is 64"),
        ("trinity", {"mup_enabled": False}, "mup_enabled is False"),
        ("exaone4_5", {"mtp_share_layers": True}, "mtp_share_layers is True"),
        ("internvl", {"llm_config": 7}, "llm_config is not an object"),
    ],
)
def test_a_variant_that_llama_cpp_would_run_wrongly_is_refused(variant, changes, message, tmp_path):
    case, change = VARIANTS[variant]

    def change_more(checkpoint):
        change(checkpoint)
        checkpoint.config.get("text_config", checkpoint.config).update(changes)

    with pytest.raises(ConfigError, match=message):
        source_from_checkpoint(changed_case(case, tmp_path, change_more))


def test_rope_of_windowed_layers_is_read_in_both_spellings(tmp_path):
    def respell(checkpoint):
        for key in ("rope_theta", "rope_local_base_freq"):
            checkpoint.config.pop(key)
        checkpoint.config["rope_parameters"] = {
            "full_attention": {"rope_type": "default", "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        }

    file = gguf_of("gemma3", tmp_path, respell)
    assert (value(file, "gemma3.rope.freq_base"), value(file, "gemma3.rope.freq_base_swa")) == (1e6, 1e4)


def test_a_falcon_with_one_norm_before_both_halves_needs_no_second(tmp_path):
    """Falcon 11B: the new QKV layout with the old norm."""

    def one_norm(checkpoint):
        for name in list(checkpoint.tensors):
            if ".ln_mlp." in name:
                del checkpoint.tensors[name]
        checkpoint.config["num_ln_in_parallel_attn"] = 1
        checkpoint.tensors = {name.replace("ln_attn", "input_layernorm"): x for name, x in checkpoint.tensors.items()}

    names = set(gguf_of("falcon_new", tmp_path, one_norm).tensors)
    assert "blk.0.attn_norm.weight" in names
    assert "blk.0.attn_norm_2.weight" not in names


def test_a_number_that_should_become_metadata_must_be_there(tmp_path):
    directory = changed_case("apertus", tmp_path, lambda one: one.tensors.pop("model.layers.1.mlp.act_fn.beta"))
    with pytest.raises(TensorError, match=r"layers\.1\.mlp\.act_fn\.beta is missing"):
        source_from_checkpoint(directory)


def test_deepseek_without_compressed_queries_needs_their_full_matrix(tmp_path):
    directory = changed_case(
        "deepseek_v2_lite", tmp_path, lambda one: one.tensors.pop("model.layers.0.self_attn.q_proj.weight")
    )
    with pytest.raises(TensorError, match=r"layers\.0\.self_attn\.q_proj\.weight is missing"):
        source_from_checkpoint(directory)


@pytest.mark.parametrize(
    ("changes", "width"),
    [({"block_auto_adjust_ff_dim": False, "block_ff_dim": 256}, 256), ({"block_multiple_of": 128}, 256)],
)
def test_lfm2_computes_the_width_of_its_mlp(changes, width, tmp_path):
    file = gguf_of("lfm2", tmp_path, lambda checkpoint: checkpoint.config.update(changes))
    assert value(file, "lfm2.feed_forward_length") == width
