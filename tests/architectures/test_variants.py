"""Families and forms that the kit lacks, against fingerprints of llama.cpp's own converter."""

import json
import re
from pathlib import Path

import numpy
import pytest
from architectures.variants import VARIANTS, qwen1, qwen1_as_qwen2
from compare import _differences_by_key, _metadata, _tensors
from fingerprint import fingerprint
from last_places import equal_but_for_the_last_place, excused
from logits import llama_logits, token_ids
from twins import changed_case, convert_edited

DELIBERATE = {
    # the reference writes an epsilon that llama.cpp does not look for, which then refuses its file
    "qwen1": r"metadata qwen\.attention\.layer_norm(_rms)?_epsilon: (extra|missing), .*",
    "exaone3": r"metadata exaone\.attention\.layer_norm(_rms)?_epsilon: (extra|missing), .*",
    # the reference takes the hidden size for the context where the config has no seq_length
    "glm": r"metadata chatglm\.context_length: .*",
}
"""What differs from the reference because ours is right."""
HERE = Path(__file__).parent


@pytest.mark.parametrize("name", VARIANTS)
def test_every_key_and_tensor_of_a_variant_equals_the_reference(name, tmp_path):
    case, change = VARIANTS[name]
    reference = json.loads((HERE / "reference" / f"{name}.json").read_text(encoding="utf-8"))
    file = convert_edited(changed_case(case, tmp_path, change), "f32")
    ours = fingerprint(file)
    found = _differences_by_key("metadata", _metadata(ours), _metadata(reference))
    found += _differences_by_key("tensor", _tensors(ours), _tensors(reference))
    exact = equal_but_for_the_last_place(file, reference["tensors"])
    wrong = [line for line in found if not excused(line, exact)]
    assert [line for line in wrong if not re.fullmatch(DELIBERATE.get(name, "(?!)"), line)] == []


def test_qwen_1_says_what_a_qwen_2_of_the_same_weights_says(tmp_path):
    logits = [
        llama_logits(
            convert_edited(changed_case("qwen2", tmp_path / change.__name__, change), "f32"), False, token_ids()
        )
        for change in (qwen1, qwen1_as_qwen2)
    ]
    assert numpy.abs(logits[0] - logits[1]).max() < 1e-5
    assert logits[0].std() > 0.1
