"""What adapter_config.json may say of single modules."""

import json

import pytest

from toolkit.errors import ConfigError
from toolkit.lora.settings import peft_settings, read_config


def settings_with(folder, patterns):
    content = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "alpha_pattern": patterns}
    (folder / "adapter_config.json").write_text(json.dumps(content), encoding="utf-8")
    return peft_settings(read_config(folder))


@pytest.mark.parametrize("pattern", ["(a+)+$", "(.*a){20}b", "(a|a)*!!"])
def test_a_pattern_that_would_be_tried_for_ages_is_matched_in_linear_time(pattern, tmp_path):
    assert settings_with(tmp_path, {pattern: 32}).scale("a" * 5000 + "!", 8) == 16 / 8


@pytest.mark.parametrize("pattern", [r"(a)\1", "(?<=x)q_proj", "a" * 3000])
def test_a_pattern_beyond_that_is_refused_by_name(pattern, tmp_path):
    with pytest.raises(ConfigError, match=r"alpha_pattern has '.*, which is not a pattern that can be matched: "):
        settings_with(tmp_path, {pattern: 32})


def test_more_patterns_than_modules_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="alpha_pattern has 5,000 patterns, at most 4,096 are matched"):
        settings_with(tmp_path, {f"layers.{index}.q_proj": 1 for index in range(5000)})
