import math

import numpy
import pytest

from toolkit.architectures.parts.rope import (
    check_rope_type,
    llama3_frequency_factors,
    longrope_factors,
    rope_metadata,
)
from toolkit.checkpoint.config_spelling import normalise
from toolkit.errors import ConfigError

LLAMA3 = {
    "rope_theta": 500000.0,
    "rope_scaling": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
}


def values(metadata):
    return {key: value.value for key, value in metadata.items()}


def test_llama3_factors_follow_the_published_formula():
    factors = llama3_frequency_factors(normalise(LLAMA3), 128)
    assert factors.dtype == numpy.float32
    for pair, factor in enumerate(factors):
        wavelength = 2 * math.pi * 500000.0 ** (2 * pair / 128)
        smooth = (8192 / wavelength - 1) / 3
        expected = 1.0 if wavelength < 2048 else 8.0 if wavelength > 8192 else 1 / ((1 - smooth) / 8 + smooth)
        assert factor == pytest.approx(expected, rel=1e-5)


def test_other_types_have_no_factors():
    assert llama3_frequency_factors(normalise({"rope_theta": 1e4}), 64) is None


@pytest.mark.parametrize("spelling", ["type", "rope_type"])
def test_linear_and_yarn_are_written_for_every_architecture(spelling):
    yarn = {
        "rope_theta": 1e6,
        "rope_scaling": {spelling: "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
    }
    assert values(rope_metadata(normalise(yarn), "qwen3")) == {
        "qwen3.rope.scaling.type": "yarn",
        "qwen3.rope.scaling.factor": 4.0,
        "qwen3.rope.scaling.original_context_length": 32768,
        "qwen3.rope.freq_base": 1e6,
    }
    linear = {"rope_theta": 1e6, "rope_scaling": {spelling: "linear", "factor": 4.0}}
    assert values(rope_metadata(normalise(linear), "qwen3"))["qwen3.rope.scaling.type"] == "linear"


def test_an_unknown_rope_type_is_refused_never_dropped():
    with pytest.raises(ConfigError, match="rope type 'spiral' is not supported here; supported: default, yarn"):
        check_rope_type(normalise({"rope_scaling": {"rope_type": "spiral"}}), ("default", "yarn"))


def test_a_scaling_without_its_factor_is_refused():
    with pytest.raises(ConfigError, match="has no factor of the rope scaling"):
        rope_metadata(normalise({"rope_theta": 1e4, "rope_scaling": {"rope_type": "linear"}}), "llama")


def test_a_per_layer_theta_is_refused():
    with pytest.raises(ConfigError, match="per-layer rope_theta is not supported for llama"):
        rope_metadata(normalise({"rope_theta": [1e4, 5e5], "model_type": "llama"}), "llama")


def test_factors_of_long_and_of_short_contexts_keep_their_names():
    scaling = {"rope_type": "longrope", "long_factor": [4.0, 8.0], "short_factor": [1.0, 1.5]}
    tensors = longrope_factors(normalise({"rope_theta": 1e4, "rope_scaling": scaling}), 4)
    assert {name: factors.tolist() for name, factors in tensors.items()} == {
        "rope_factors_long.weight": [4.0, 8.0],
        "rope_factors_short.weight": [1.0, 1.5],
    }
