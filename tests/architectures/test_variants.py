"""Families and forms that the kit lacks, against fingerprints of llama.cpp's own converter."""

import json
from pathlib import Path

import pytest
from architectures.variants import VARIANTS
from compare import _differences_by_key, _metadata, _tensors
from fingerprint import fingerprint
from twins import changed_case, convert_edited

HERE = Path(__file__).parent


@pytest.mark.parametrize("name", VARIANTS)
def test_every_key_and_tensor_of_a_variant_equals_the_reference(name, tmp_path):
    case, change = VARIANTS[name]
    reference = json.loads((HERE / "reference" / f"{name}.json").read_text(encoding="utf-8"))
    ours = fingerprint(convert_edited(changed_case(case, tmp_path, change), "f32"))
    assert _differences_by_key("metadata", _metadata(ours), _metadata(reference)) == []
    assert _differences_by_key("tensor", _tensors(ours), _tensors(reference)) == []
