"""Llama and its near relatives: the order of rows, and configs that llama.cpp would run wrongly."""

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twins import changed_case

from toolkit.architectures.parts.transforms import interleave_rope
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.errors import ConfigError
from toolkit.gguf.rows import generated
from toolkit.sources.hf_source import source_from_checkpoint


@given(st.integers(1, 6), st.integers(1, 5), st.data())
@settings(max_examples=60, deadline=None)
def test_interleaved_rows_are_the_same_in_pieces_of_any_length(heads, half, data):
    rows = heads * 2 * half
    source = generated(numpy.arange(rows * 3, dtype="<f4").reshape(rows, 3))
    permuted = interleave_rope("n")(source, ModelConfig({"n": heads}))
    whole = source.read_rows(0, rows).reshape(heads, 2, half, 12).swapaxes(1, 2).reshape(rows, 12)
    start = data.draw(st.integers(0, rows - 1))
    stop = data.draw(st.integers(start + 1, rows))
    assert numpy.array_equal(permuted.read_rows(start, stop), whole[start:stop])


def test_the_elements_of_a_bias_move_as_rows_do():
    bias = generated(numpy.arange(8, dtype="<f4"))
    permuted = interleave_rope("n")(bias, ModelConfig({"n": 2}))
    assert permuted.read_rows(0, 1).copy().view("<f4")[0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


@pytest.mark.parametrize(
    ("case", "changes", "message"),
    [
        ("llama2", {"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ("qwen3", {"hidden_act": "relu"}, "hidden_act 'relu'"),
        ("smollm3", {"no_rope_layers": [1, 0, 1, 0]}, "no_rope_layers is not every fourth layer"),
        ("smollm3", {"no_rope_layers": None, "no_rope_layer_interval": 3}, "not every fourth layer"),
        ("qwen2", {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "rope type 'llama3' is not supported"),
    ],
)
def test_what_llama_cpp_would_run_wrongly_is_refused(case, changes, message, tmp_path):
    directory = changed_case(case, tmp_path, lambda checkpoint: checkpoint.config.update(changes))
    with pytest.raises(ConfigError, match=message):
        source_from_checkpoint(directory)


@pytest.mark.parametrize(
    ("case", "changes"),
    [
        ("llama2", {"hidden_act": "swish"}),
        ("qwen2", {"use_sliding_window": False, "sliding_window": 16}),
        ("qwen3", {"use_sliding_window": True, "sliding_window": 1 << 20}),
        ("smollm3", {"no_rope_layers": [1, 1, 1, 0], "no_rope_layer_interval": 4}),
    ],
)
def test_what_it_runs_alike_is_accepted(case, changes, tmp_path):
    directory = changed_case(case, tmp_path, lambda checkpoint: checkpoint.config.update(changes))
    assert source_from_checkpoint(directory).tensors
