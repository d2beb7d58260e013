"""Which layers attend to a window only, from the spellings of a config to what llama.cpp reads."""

import pytest
from twins import changed_case, convert_edited, gguf_of

from toolkit.architectures.parts.windows import window_every, windowed_layers
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.errors import ConfigError
from toolkit.llama.run_settings import RunSettings
from toolkit.llama.runtime import LlamaRuntime
from toolkit.sources.hf_source import source_from_checkpoint

PATTERN = "attention.sliding_window_pattern"
KINDS = ("sliding_attention", "full_attention")


def config(n_layer: int, **values: object) -> ModelConfig:
    return ModelConfig({"num_hidden_layers": n_layer, "sliding_window": 64, **values})


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"sliding_window_pattern": 3}, "LLGLLGL"),
        ({}, "LLLGLLL"),
        ({"sliding_window_pattern": "LG"}, "LGLGLGL"),
        ({"sliding_window_pattern": 1}, "GGGGGGG"),
        ({"global_attn_every_n_layers": 2}, "LGLGLGL"),
        ({"layer_types": ["full_attention", "sliding_attention"] * 3 + ["full_attention"]}, "GLGLGLG"),
        ({"layer_types": ["sliding_attention"] * 7, "sliding_window_pattern": 2}, "LLLLLLL"),
    ],
)
def test_every_spelling_says_which_layers_have_the_window(values, expected):
    assert windowed_layers(config(7, **values)) == [letter == "L" for letter in expected]


def test_the_pattern_is_written_only_where_it_is_not_the_one_of_the_graph():
    assert set(window_every(config(6), 6)) == {"attention.sliding_window"}
    written = window_every(config(6, sliding_window_pattern=3), 6)
    assert written[PATTERN].value == (True, True, False, True, True, False)


@pytest.mark.parametrize("case", ["gemma2", "gemma3", "cohere2", "gpt_oss"])
def test_llama_cpp_reads_the_layers_of_a_pattern_that_is_not_its_own(case, tmp_path):
    """The same weights, but another layer sees less than the whole text: other logits."""
    logits = []
    for number in range(2):

        def exchange(checkpoint, number=number):
            layers = checkpoint.config["num_hidden_layers"]
            kinds = [KINDS[(layer + number) % 2] for layer in range(layers)]
            checkpoint.config |= {"layer_types": kinds, "sliding_window": 8}

        file = convert_edited(changed_case(case, tmp_path / str(number), exchange))
        with LlamaRuntime(file, RunSettings(n_ctx=64, n_batch=64)) as model:
            logits.append(model.evaluate(list(range(5, 45))))
    assert abs(logits[0] - logits[1]).max() > 1e-3


@pytest.mark.parametrize("case", ["gemma2", "cohere2", "gpt_oss"])
def test_a_graph_that_needs_a_windowed_layer_is_not_given_a_model_without_one(case, tmp_path):
    def widen(checkpoint):
        checkpoint.config["layer_types"] = ["full_attention"] * checkpoint.config["num_hidden_layers"]

    with pytest.raises(ConfigError, match="no layer has the sliding window"):
        source_from_checkpoint(changed_case(case, tmp_path, widen))


def test_a_gemma_3_whose_layers_all_see_everything_has_no_window(tmp_path):
    file = gguf_of("gemma3", tmp_path, lambda checkpoint: checkpoint.config.update(sliding_window_pattern=1))
    assert not [key for key in file.metadata if "sliding" in key]
