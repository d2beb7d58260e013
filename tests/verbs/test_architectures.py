"""`toolkit.list_architectures` and `toolkit.show_architecture`, as a Python user calls them."""

import pytest

import toolkit
from toolkit.errors import InputError


def test_a_text_narrows_both_lists() -> None:
    result = toolkit.list_architectures("gemma3")
    assert {known.family for known in result.known} == {"gemma"}
    assert "MixtralForCausalLM" in {name for known in toolkit.list_architectures().known for name in known.classes}
    assert set(toolkit.list_architectures("chatglm").refused) == {"ChatGLMModel", "ChatGLMForConditionalGeneration"}


@pytest.mark.parametrize("name", ["orion", "OrionForCausalLM", "orionforcausallm"])
def test_an_architecture_is_found_by_any_of_its_names(name: str) -> None:
    (orion,) = toolkit.show_architecture(name).architectures
    assert ("model.norm.bias", "output_norm.bias") in [(rule.source, rule.target) for rule in orion.tensors]


def test_a_name_that_no_architecture_has_is_refused() -> None:
    with pytest.raises(InputError, match="no architecture has the class, model type or name 'orionn'"):
        toolkit.show_architecture("orionn")
