"""Rules and stored tensors, with architectures of a rule or two."""

from dataclasses import replace

import numpy
import pytest
from packed_checkpoint import open_packed
from quantized_sources import test_gptq as gptq

from toolkit.architectures.families.llama import LLAMA
from toolkit.architectures.parts.base import Architecture, TensorRule
from toolkit.checkpoint.config_spelling import normalise
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.errors import TensorError
from toolkit.sources.tensor_matching import match_tensors

CONFIG = {"num_local_experts": 2, "hidden_size": gptq.IN, "intermediate_size": gptq.OUT}


def with_rules(*rules: TensorRule) -> Architecture:
    return replace(LLAMA, tensors=rules, dropped={}, block_count=lambda _config: 0)


def config() -> ModelConfig:
    return normalise(CONFIG)


def experts(directory, *bits):
    """Return two packed experts whose codes have these bits, on grids that GGUF has types for."""
    tensors = {}
    for expert, width in enumerate(bits):
        own, _ = gptq.checkpoint(width, zeros=2 ** (width - 1) - 1)
        tensors |= {name.replace("m.", f"experts.{expert}.", 1): value for name, value in own.items()}
    dynamic = {rf"+:experts\.{expert}": {"bits": width} for expert, width in enumerate(bits)}
    return open_packed(directory, tensors, gptq.settings(dynamic=dynamic))[0].tensors


@pytest.mark.parametrize(("bits", "kept_type"), [((4, 4), "Q4_0"), ((8, 8), "Q8_0"), ((4, 8), None), ((8, 4), None)])
def test_experts_are_kept_in_one_tensor_only_if_all_have_the_same_type(bits, kept_type, tmp_path):
    rule = TensorRule("experts.{expert}.weight", "ffn_up_exps.weight", ("intermediate_size", "hidden_size"))
    (tensor,) = match_tensors(with_rules(rule), config(), experts(tmp_path, *bits)).tensors
    kept = tensor.blocks()
    assert (kept and kept.rows.type.name) == kept_type
    assert tensor.shape == (2, gptq.OUT, gptq.IN)


NORM = ("F32", numpy.ones(gptq.IN, numpy.float32))
ALTERNATIVES = with_rules(*(TensorRule(f"{name}.weight", "norm.weight", ("hidden_size",)) for name in ("new", "old")))


@pytest.mark.parametrize("stored", ["new", "old"])
def test_any_alternative_of_a_tensor_will_do(stored, tmp_path):
    checkpoint, _ = open_packed(tmp_path, {f"{stored}.weight": NORM}, None)
    (tensor,) = match_tensors(ALTERNATIVES, config(), checkpoint.tensors).tensors
    assert tensor.name == "norm.weight"


def test_of_alternatives_the_first_that_is_stored_counts_and_no_other_is_used(tmp_path):
    checkpoint, _ = open_packed(tmp_path, {"new.weight": NORM, "old.weight": NORM}, None)
    with pytest.raises(TensorError, match=r"^old\.weight has no place in the architecture"):
        match_tensors(ALTERNATIVES, config(), checkpoint.tensors)


def test_where_no_alternative_is_stored_the_first_is_missing():
    with pytest.raises(TensorError, match=r"^new\.weight is missing; the architecture requires it"):
        match_tensors(ALTERNATIVES, config(), {})
