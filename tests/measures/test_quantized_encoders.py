"""Encoders and T5 in quantized types: the types and bytes that llama.cpp's own quantization gives the same file."""

import pytest
from llama_quantize import contents, llama_quantize

from toolkit.quant_profile import load_profile

CASES = ("bert", "xlm_roberta", "nomic_bert", "t5")


@pytest.mark.parametrize("profile", ["q4_k_m", "q8_0"])
@pytest.mark.parametrize("case", CASES)
def test_tensors_are_those_that_llama_quantize_makes_of_the_f32_file(case, profile, converted, tmp_path):
    theirs = tmp_path / "theirs.gguf"
    llama_quantize(converted(case, "f32"), theirs, load_profile(profile).file_type)

    ours = contents(converted(case, profile))["tensors"]
    expected = contents(theirs)["tensors"]
    # What no profile quantizes is 16-bit in our file, as it is in one that the converter makes, and stays F32 in theirs.
    unquantized = {name for name, (_, type_, _) in expected.items() if type_ == "F32"}
    assert {name: ours[name] for name in ours.keys() - unquantized} == {
        name: expected[name] for name in expected.keys() - unquantized
    }
    assert len(unquantized) < len(expected)
