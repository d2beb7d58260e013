"""What llama.cpp does not do is said in one line; what changes nothing is not."""

import pytest
from twins import changed_case, file_of, gguf_of, value

from toolkit.architectures.parts.shortfalls import shortfalls
from toolkit.checkpoint.config_spelling import normalise
from toolkit.errors import ConfigError
from toolkit.sources.config_source import source_from_config
from toolkit.sources.hf_source import source_from_checkpoint

SHORT = {"max_position_embeddings": 4096, "num_hidden_layers": 4, "sliding_window": 16}
DYNAMIC = {"rope_scaling": {"type": "dynamic", "factor": 2.0}}


def lines(written=(), **values):
    return shortfalls(normalise(SHORT | values), written)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"use_sliding_window": True, "max_window_layers": 2},
        {"use_sliding_window": True, "layer_types": ["full_attention"] * 3 + ["sliding_attention"]},
        {"use_sliding_window": True},
    ],
)
def test_a_window_that_the_file_lacks_is_named(values):
    values = {"max_window_layers": 2} | values if values else values
    (line,) = lines(**values)
    assert "sliding window of 16 tokens" in line


@pytest.mark.parametrize(
    "values",
    [
        {"sliding_window": None},
        {"sliding_window": 4096},
        {"use_sliding_window": False},
        {"use_sliding_window": True, "max_window_layers": 4},
        {"max_window_layers": 2},
        {"use_sliding_window": True, "layer_types": ["full_attention"] * 4},
    ],
)
def test_a_window_that_no_layer_has_or_no_text_reaches_is_not(values):
    assert lines(**values) == ()


def test_a_window_that_is_written_is_not_lost():
    assert lines(written=("gemma3.attention.sliding_window",)) == ()


def test_dual_chunk_attention_is_named_with_its_original_length():
    (line,) = lines(sliding_window=None, dual_chunk_attention_config={"original_max_position_embeddings": 262144})
    assert line.startswith("beyond 262144 tokens")
    assert "dual_chunk_attention_config" in line


@pytest.mark.parametrize("case", ["mistral", "qwen3"])
def test_checkpoints_and_bare_configs_carry_the_line(case, tmp_path):
    window = {"use_sliding_window": True, "max_window_layers": 0, "sliding_window": 16}
    directory = changed_case(case, tmp_path, lambda checkpoint: checkpoint.config.update(window))
    for source in (source_from_checkpoint(directory), source_from_config(directory)):
        assert [line for line in source.warnings if "sliding window of 16 tokens" in line]


def test_dynamic_scaling_changes_nothing_but_what_is_said(tmp_path):
    plain = file_of("llama2", tmp_path / "plain")
    directory = changed_case("llama2", tmp_path / "dynamic", lambda checkpoint: checkpoint.config.update(DYNAMIC))
    warnings = [line for line in source_from_checkpoint(directory).warnings if "scales rope dynamically" in line]
    assert len(warnings) == 1
    assert file_of("llama2", tmp_path / "twice", lambda checkpoint: checkpoint.config.update(DYNAMIC)) == plain


def test_the_context_of_dynamic_scaling_ends_where_it_begins(tmp_path):
    scaling = {"rope_scaling": DYNAMIC["rope_scaling"] | {"original_max_position_embeddings": 128}}
    file = gguf_of("llama2", tmp_path, lambda checkpoint: checkpoint.config.update(scaling))
    assert value(file, "llama.context_length") == 128


@pytest.mark.parametrize("case", ["phi3", "minicpm3"])
@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ({}, "has no long_factor of the rope scaling"),
        ({"long_factor": []}, r"long_factor of the rope scaling lists 0 numbers, expected \d+"),
        ({"long_factor": "1.0"}, "long_factor of the rope scaling is '1.0', expected a list of \\d+ numbers"),
        ({"short_factor": [1.0] * 8}, "has no long_factor of the rope scaling"),
    ],
)
def test_longrope_without_its_factors_is_refused_by_key(case, factors, message, tmp_path):
    scaling = {"rope_scaling": {"type": "longrope", **factors}}
    directory = changed_case(case, tmp_path, lambda checkpoint: checkpoint.config.update(scaling))
    with pytest.raises(ConfigError, match=message):
        source_from_checkpoint(directory)
