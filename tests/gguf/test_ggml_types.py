import ctypes

import pytest

from toolkit.errors import ProfileError
from toolkit.gguf.ggml_types import TYPES, tensor_type
from toolkit.llama.native import ggml_library
from toolkit.quant_profile.weight_types import weight_type


def test_every_type_has_the_number_name_and_block_of_ggml():
    base = ggml_library("ggml-base")
    base.ggml_type_name.restype, base.ggml_type_size.restype = ctypes.c_char_p, ctypes.c_size_t
    base.ggml_blck_size.restype = ctypes.c_int64
    for name, type_ in TYPES.items():
        assert base.ggml_type_name(type_.ggml_id).decode().upper() == name
        assert (base.ggml_blck_size(type_.ggml_id), base.ggml_type_size(type_.ggml_id)) == (
            type_.block_length,
            type_.block_bytes,
        )


@pytest.mark.parametrize("name", ["NVFP4", "Q1_0", "Q2_0"])
def test_types_that_models_are_trained_in_are_known_and_no_target(name):
    assert tensor_type(name).quantized
    with pytest.raises(ProfileError, match=f"weights cannot be stored as {name}; types for weights: F32"):
        weight_type(name)


def test_rows_that_are_not_whole_blocks_have_no_size():
    assert TYPES["Q4_K"].row_bytes(512) == 288
    with pytest.raises(ValueError, match="a row of 576 elements is not a whole number of Q4_K blocks"):
        TYPES["Q4_K"].row_bytes(576)


def test_a_tensor_takes_the_bytes_of_all_its_rows():
    assert TYPES["Q8_0"].tensor_bytes((4, 3, 64)) == 4 * 3 * 68
    assert TYPES["F32"].tensor_bytes((5,)) == 20


def test_an_unknown_type_is_refused_with_the_known_ones():
    assert tensor_type("q6_k") is TYPES["Q6_K"]
    with pytest.raises(ProfileError, match="'Q7_K' is not a tensor type; known: F32, F16"):
        tensor_type("Q7_K")


def test_bits_of_a_weight_are_those_of_its_block():
    assert [TYPES[name].bits_per_weight for name in ("F32", "BF16", "Q8_0", "Q4_K", "MXFP4")] == [
        32,
        16,
        8.5,
        4.5,
        4.25,
    ]
