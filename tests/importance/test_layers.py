import numpy
import pytest

from toolkit.importance.layers import layer_importance
from toolkit.importance.sums import ImatrixSums, TensorSums


def entry(rows: list[list[float]], counts: list[int]) -> TensorSums:
    return TensorSums(numpy.array(rows, numpy.float32), numpy.array(counts, numpy.int64))


def test_layers_are_weighed_by_their_mean_squares_and_compared_with_the_one_before() -> None:
    sums = ImatrixSums(
        {
            "blk.1.ffn_up.weight": entry([[20, 0]], [10]),
            "blk.0.ffn_up.weight": entry([[10, 0]], [10]),
            "blk.2.ffn_up.weight": entry([[0, 10]], [10]),
            "blk.2.ffn_up_exps.weight": entry([[4, 0], [0, 0]], [4, 0]),
            "output.weight": entry([[1000, 0]], [1]),
        },
        chunk_size=10,
        datasets=(),
    )
    first, second, third = layer_importance(sums)
    assert [first.total, second.total, third.total] == pytest.approx([1, 2, 2])
    assert [first.share, second.share, third.share] == pytest.approx([0.2, 0.4, 0.4])
    assert first.similarity is None
    assert (second.similarity, third.similarity) == pytest.approx((1, 0))
    assert (third.tensors, third.unseen_experts) == (2, 1)


def test_a_matrix_without_blocks_has_no_layers() -> None:
    assert layer_importance(ImatrixSums({"output.weight": entry([[1.0]], [1])}, 512, ())) == []
