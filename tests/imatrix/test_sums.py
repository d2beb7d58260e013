from pathlib import Path

import numpy
import pytest
from demo_model import GOLDEN

from toolkit.errors import ImatrixError, InputError
from toolkit.imatrix.matrix import read_imatrix, read_sums
from toolkit.imatrix.sums import ImatrixSums, TensorSums, merge_sums, write_imatrix


def entry(sums: list[list[float]], counts: list[int]) -> TensorSums:
    return TensorSums(numpy.array(sums, numpy.float32), numpy.array(counts, numpy.int64))


def matrix(name: str = "text", factor: int = 1) -> ImatrixSums:
    entries = {
        "blk.1.ffn_up_exps.weight": entry([[1.0 * factor, 2], [0, 0]], [5 * factor, 0]),
        "blk.0.attn_q.weight": entry([[3, 4]], [10 * factor]),
    }
    return ImatrixSums(entries, 4, (name,))


@pytest.mark.parametrize("golden", ["demo.imatrix", "tiny_moe.imatrix"])
def test_what_llama_imatrix_wrote_is_written_again_byte_by_byte(golden: str, tmp_path: Path) -> None:
    write_imatrix(read_sums(GOLDEN / golden), tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (GOLDEN / golden).read_bytes()


def test_a_written_matrix_is_read_as_means_with_ones_for_unseen_experts(tmp_path: Path) -> None:
    write_imatrix(matrix(), tmp_path / "m")
    found = read_imatrix(tmp_path / "m")
    assert found.entries["blk.0.attn_q.weight"].tolist() == pytest.approx([0.3, 0.4])
    assert found.entries["blk.1.ffn_up_exps.weight"].tolist() == pytest.approx([0.2, 0.4, 1, 1])
    assert (found.chunks, found.datasets) == (2, ("text",))


def test_matrices_add_up_as_if_their_texts_had_been_one(tmp_path: Path) -> None:
    for name, factor in (("a", 1), ("b", 3)):
        write_imatrix(matrix(name, factor), tmp_path / name)
    merged = merge_sums([read_sums(tmp_path / name) for name in ("a", "b")])
    up = merged.entries["blk.1.ffn_up_exps.weight"]
    assert up.sums.tolist() == [[4, 4], [0, 0]]
    assert up.counts.tolist() == [20, 0]
    assert (merged.datasets, merged.chunks, up.unseen) == (("a", "b"), 10, 1)


def test_a_tensor_that_only_one_matrix_knows_is_kept() -> None:
    other = ImatrixSums({"blk.9.attn_q.weight": entry([[1]], [4])}, 4, ())
    assert merge_sums([matrix(), other]).entries.keys() == matrix().entries.keys() | {"blk.9.attn_q.weight"}


def test_matrices_of_different_models_do_not_add_up() -> None:
    other = ImatrixSums({"blk.0.attn_q.weight": entry([[1, 2, 3]], [4])}, 4, ())
    with pytest.raises(ImatrixError, match=r"blk\.0\.attn_q\.weight has sums of shape \(1, 2\) .* \(1, 3\) in another"):
        merge_sums([matrix(), other])


def test_nothing_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ImatrixError, match="no tensor was seen"):
        write_imatrix(ImatrixSums({}, 4, ()), tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_not_replaced_unasked(tmp_path: Path) -> None:
    write_imatrix(matrix(), tmp_path / "m")
    with pytest.raises(InputError, match="exists"):
        write_imatrix(matrix(), tmp_path / "m")
    write_imatrix(matrix(), tmp_path / "m", force=True)


def test_the_legacy_format_has_sums_too(tmp_path: Path) -> None:
    import struct

    name = b"blk.0.attn_q.weight"
    stored = struct.pack("<ii", 1, len(name)) + name + struct.pack("<iiff", 4, 2, 2.0, 8.0)
    (tmp_path / "old.dat").write_bytes(stored)
    found = read_sums(tmp_path / "old.dat")
    q = found.entries["blk.0.attn_q.weight"]
    assert q.means.tolist() == [[0.5, 2.0]]
    assert q.counts.tolist() == [4 * 512]
