import gguf
import pytest

from toolkit.errors import ProfileError
from toolkit.ggml_types import TYPES, tensor_type


def test_every_type_has_the_number_and_block_of_the_gguf_library():
    for name, type_ in TYPES.items():
        reference = gguf.GGMLQuantizationType[name]
        assert type_.ggml_id == reference
        assert (type_.block_length, type_.block_bytes) == gguf.GGML_QUANT_SIZES[reference]


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
