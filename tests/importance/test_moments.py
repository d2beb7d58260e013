"""The file of second moments: read as written, merged by counts, refused where it is damaged."""

import numpy
import pytest

from toolkit.errors import ImatrixError
from toolkit.importance.moments import (
    InputMoments,
    InputShape,
    MomentsHeader,
    is_moments,
    merge_moments,
    open_moments,
    write_moments,
)
from toolkit.importance.sums import ImatrixSums, TensorSums, write_imatrix

SHAPES = (
    InputShape(("blk.0.attn_q.weight", "blk.0.attn_k.weight"), 4),
    InputShape(("blk.0.ffn_gate_exps.weight", "blk.0.ffn_up_exps.weight"), 4, 3),
)


def sums(seed, tokens):
    """Return inputs of both parts of a text, by shape: float64 [matrices, tokens, n]."""
    draw = numpy.random.default_rng(seed)
    return [[draw.standard_normal((shape.matrices, count, 4)) for count in tokens] for shape in SHAPES]


def moments(inputs):
    for shape, halves in zip(SHAPES, inputs, strict=True):
        means = [numpy.einsum("mti,mtj->mij", half, half) / half.shape[1] for half in halves]
        counts = numpy.array([[half.shape[1]] * shape.matrices for half in halves])
        yield InputMoments(shape, (means[0], means[1]), counts)


def written(path, inputs, name="prose.txt"):
    write_moments(path, MomentsHeader(SHAPES, (name,), 8), moments(inputs))
    return open_moments(path)


def test_what_is_written_is_read_to_float32(tmp_path):
    file = written(tmp_path / "m.gguf", inputs := sums(1, (40, 10)))
    assert is_moments(tmp_path / "m.gguf")
    assert (file.datasets, file.chunk_size) == (("prose.txt",), 8)
    for expected in moments(inputs):
        for weight in expected.shape.weights:
            found = file.of(weight)
            assert numpy.array_equal(found.tokens, expected.tokens)
            assert all(
                numpy.allclose(ours, theirs, rtol=1e-6, atol=1e-7)
                for ours, theirs in zip(found.means, expected.means, strict=True)
            )
    assert file.of("blk.9.attn_q.weight") is None


def test_the_diagonal_is_the_importance_matrix_of_the_whole_text(tmp_path):
    file = written(tmp_path / "m.gguf", inputs := sums(2, (40, 10)))
    importance = file.importance()
    both = numpy.concatenate(inputs[1], axis=1)
    expected = (both**2).mean(1).reshape(-1)
    for weight in SHAPES[1].weights:
        assert numpy.allclose(importance.entries[weight], expected, rtol=1e-5)
    assert importance.chunks == 50 // 8


def test_merged_files_are_those_of_all_texts_together(tmp_path):
    parts = [sums(seed, tokens) for seed, tokens in ((3, (40, 10)), (4, (8, 24)))]
    files = [written(tmp_path / f"{number}.gguf", part, f"{number}.txt") for number, part in enumerate(parts)]
    merge_moments(files, tmp_path / "both.gguf")
    together = [
        [numpy.concatenate(halves, axis=1) for halves in zip(*both, strict=True)] for both in zip(*parts, strict=True)
    ]
    file = open_moments(tmp_path / "both.gguf")
    assert file.datasets == ("0.txt", "1.txt")
    for expected in moments(together):
        found = file.of(expected.shape.name)
        assert numpy.array_equal(found.tokens, expected.tokens)
        assert numpy.allclose(found.whole, expected.whole, rtol=1e-5, atol=1e-6)


def test_files_of_different_models_are_not_merged(tmp_path):
    first = written(tmp_path / "m.gguf", sums(5, (8, 2)))
    other = MomentsHeader(SHAPES[:1], (), 8)
    write_moments(tmp_path / "other.gguf", other, list(moments(sums(5, (8, 2))))[:1])
    with pytest.raises(ImatrixError, match="moments of different models"):
        merge_moments([first, open_moments(tmp_path / "other.gguf")], tmp_path / "both.gguf")
    assert not (tmp_path / "both.gguf").exists()


def test_an_importance_matrix_is_not_taken_for_moments(tmp_path):
    path = tmp_path / "im.gguf"
    entry = TensorSums(numpy.ones((1, 4), numpy.float32), numpy.array([8]))
    write_imatrix(ImatrixSums({"blk.0.attn_q.weight": entry}, 8, ("t",)), path)
    assert not is_moments(path)
    with pytest.raises(ImatrixError, match="not a file of second moments; make one with"):
        open_moments(path)


def test_moments_that_are_no_numbers_are_refused_by_name(tmp_path):
    inputs = sums(6, (8, 2))
    inputs[1][0][2, 0, 0] = numpy.nan
    file = written(tmp_path / "m.gguf", inputs)
    assert file.of("blk.0.attn_k.weight") is not None
    with pytest.raises(ImatrixError, match=r"the moments of blk\.0\.ffn_gate_exps\.weight hold NaN"):
        file.of("blk.0.ffn_up_exps.weight")


def test_nothing_collected_is_nothing_written(tmp_path):
    with pytest.raises(ImatrixError, match="no second moments to write"):
        write_moments(tmp_path / "m.gguf", MomentsHeader((), (), 8), ())
    assert not (tmp_path / "m.gguf").exists()
