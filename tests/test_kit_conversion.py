"""Our files against the fingerprints of llama.cpp's own converter, and against the logits of transformers."""

import json
from pathlib import Path

import numpy
import pytest
from compare import TYPES, differences
from logits import compare_logits, llama_logits

KIT = Path(__file__).parent / "kit"
CASES = (
    "llama2",
    "llama3",
    "llama_f32",
    "llama_hf_vocab",
    "llama_linear",
    "llama_yarn",
    "mistral",
    "mistral_nemo",
    "qwen2",
    "qwen3",
    "smollm",
    "smollm3",
)
LLAMA_CPP_TOLERANCE = 2.0
"""Our f32 file may be this much further from transformers than the reference's was on the machine that recorded it;
the weights are equal, what differs is the order in which another processor adds."""


@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.parametrize("case", CASES)
def test_every_key_and_tensor_equals_the_reference(case, type_, converted):
    assert differences(case, converted(case, type_), type_) == []


@pytest.mark.parametrize("case", CASES)
def test_logits_are_as_close_to_transformers_as_those_of_the_reference_file(case, converted):
    recorded = numpy.load(KIT / "logits" / f"{case}.npz")
    reference = json.loads((KIT / "logits" / "summary.json").read_text())[case]
    ours = compare_logits(llama_logits(converted(case, "f32"), False, recorded["token_ids"]), recorded["logits"])
    assert ours["max_abs"] <= LLAMA_CPP_TOLERANCE * reference["max_abs"]
