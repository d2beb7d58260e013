"""Our files against the fingerprints of llama.cpp's own converter, and against the logits of transformers."""

import json
import re
from pathlib import Path

import numpy
import pytest
from compare import TYPES, differences, read_reference
from kit_cases import CASES
from last_places import equal_but_for_the_last_place, excused
from logits import compare_logits, llama_logits, token_ids

KIT = Path(__file__).parents[1] / "kit"


DELIBERATE = {
    # the reference forgets to say which type it wrote
    "gpt_neox": r"metadata general\.file_type: extra, .*",
    "mpt": r"metadata general\.file_type: extra, .*",
    # the reference looks for it outside text_config, finds none, and llama.cpp would end texts at another token
    "gemma3_multimodal": r"metadata tokenizer\.ggml\.eos_token_id: extra, .*",
}
"""What differs from the reference because ours is right."""

RECORDED = json.loads((KIT / "logits" / "summary.json").read_text(encoding="utf-8"))
ENCODERS = ("bert", "xlm_roberta", "nomic_bert")
"""Cases whose recorded logits are hidden states, [24, hidden]."""
LLAMA_CPP_TOLERANCE = 2.0
"""Our f32 file may be this much further from transformers than the reference's was on the machine that recorded it;
the weights are equal, what differs is the order in which another processor adds."""
RECURRENT_TOLERANCE = {"qwen3_5": 3.0}
"""A recurrent state adds up those differences over the tokens: 5.2e-5 on a processor without AVX-512, where 2.4e-5 was
recorded, with a file equal to the reference's byte for byte."""


@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.parametrize("case", CASES)
def test_every_key_and_tensor_equals_the_reference(case, type_, converted):
    found = differences(case, converted(case, type_), type_)
    exact = equal_but_for_the_last_place(converted(case, type_), read_reference(case, type_)["tensors"])
    wrong = [line for line in found if not excused(line, exact)]
    assert [line for line in wrong if not re.fullmatch(DELIBERATE.get(case, "(?!)"), line)] == []


def test_a_missing_or_another_exponential_is_not_excused(converted):
    reference = read_reference("mamba", "f32")["tensors"]
    assert equal_but_for_the_last_place(converted("mamba", "f32"), reference) == {"blk.0.ssm_a", "blk.1.ssm_a"}
    assert equal_but_for_the_last_place(converted("jamba", "f32"), reference) == set()
    names = {"blk.0.ssm_a"}
    assert excused("tensor blk.0.ssm_a: {'shape': [16, 512]}, expected {}", names)
    assert not excused("tensor blk.0.ssm_a: missing, expected {}", names)
    assert not excused("tensor blk.1.ssm_a: {'shape': [16, 512]}, expected {}", names)


@pytest.mark.parametrize("case", [case for case in CASES if "max_abs" in RECORDED.get(case, {})])
def test_logits_are_as_close_to_transformers_as_those_of_the_reference_file(case, converted):
    recorded = numpy.load(KIT / "logits" / f"{case}.npz")
    logits = llama_logits(converted(case, "f32"), case in ENCODERS, recorded["token_ids"])
    ours = compare_logits(logits, recorded["logits"])
    assert ours["max_abs"] <= RECURRENT_TOLERANCE.get(case, LLAMA_CPP_TOLERANCE) * RECORDED[case]["max_abs"]


@pytest.mark.parametrize("case", [case for case in CASES if RECORDED.get(case) == {}])
def test_what_transformers_does_not_run_loads_and_gives_finite_logits(case, converted):
    assert numpy.isfinite(llama_logits(converted(case, "f32"), case in ENCODERS, token_ids())).all()


@pytest.mark.parametrize("case", [case for case in CASES if "error" in RECORDED.get(case, {})])
def test_what_llama_cpp_refuses_of_the_reference_it_refuses_of_ours(case, converted):
    with pytest.raises(RuntimeError, match="refused"):
        llama_logits(converted(case, "f32"), False, token_ids())
