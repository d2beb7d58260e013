import numpy
import pytest
from packed_checkpoint import named, open_packed, random, values_of

from toolkit.errors import CheckpointError

OUT, IN, GROUP = 40, 128, 64
ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def settings(**changes):
    return {
        "quant_method": "awq", "bits": 4, "group_size": GROUP, "zero_point": True, "version": "gemm",
        "modules_to_not_convert": ["lm_head"], **changes,
    }  # fmt: skip


def pack(codes):
    """Pack [rows, outputs]: nibble k of a word is output ORDER[k] of its eight."""
    words = numpy.zeros((len(codes), codes.shape[1] // 8), dtype=numpy.uint32)
    for word in range(words.shape[1]):
        for nibble, output in enumerate(ORDER):
            words[:, word] |= codes[:, 8 * word + output].astype(numpy.uint32) << 4 * nibble
    return words.view(numpy.int32)


def checkpoint(shape=(OUT, IN)):
    draw, (outputs, inputs) = random(2), shape
    codes, zeros = draw.integers(0, 16, (inputs, outputs)), draw.integers(0, 16, (inputs // GROUP, outputs))
    scales = draw.uniform(0.005, 0.02, zeros.shape).astype(numpy.float16)
    weights = numpy.empty(shape, dtype=numpy.float32)
    for column in range(inputs):
        group = column // GROUP
        weights[:, column] = scales[group].astype(numpy.float32) * (codes[column] - zeros[group]).astype(numpy.float32)
    return named(qweight=pack(codes), qzeros=pack(zeros), scales=scales), weights


def test_the_order_of_the_nibbles_is_undone_and_the_matrix_transposed(tmp_path):
    tensors, weights = checkpoint()
    tensors["lm_head.weight"] = ("F16", numpy.ones((4, 4), numpy.float16))
    opened, _ = open_packed(tmp_path, tensors, settings())
    assert numpy.array_equal(values_of(opened.tensors["m.weight"], step=7), weights)
    assert opened.tensors["lm_head.weight"].dtype == "F16"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": "gemv"}, r"awq quantization of version 'gemv' \(first: m\), which cannot be read"),
        ({"version": "exllama"}, "of version 'exllama'"),
        ({"bits": 3}, r"awq quantization with 3 bits \(first: m\)"),
        ({"group_size": 32}, r"m\.scales has shape \[2, 40\], but 128 inputs in groups of 32 need \[4, 40\]"),
    ],
)
def test_other_versions_and_widths_are_refused_by_name(changes, message, tmp_path):
    with pytest.raises(CheckpointError, match=message):
        open_packed(tmp_path, checkpoint()[0], settings(**changes))


def test_an_incomplete_set_names_its_missing_companion(tmp_path):
    tensors, _ = checkpoint()
    del tensors["m.qzeros"]
    with pytest.raises(CheckpointError, match=r"its companion m\.qzeros is missing"):
        open_packed(tmp_path, tensors, settings())
