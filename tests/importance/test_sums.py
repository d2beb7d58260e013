import struct
from pathlib import Path

import numpy
import pytest
from demo_model import GOLDEN

from toolkit.errors import ImatrixError, InputError
from toolkit.importance.matrix import read_imatrix, read_sums
from toolkit.importance.sums import ImatrixSums, TensorSums, merge_sums, write_imatrix


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


UP, DOWN, ROUTER = "blk.1.ffn_up_exps.weight", "blk.1.ffn_down_exps.weight", "blk.1.ffn_gate_inp.weight"


def legacy(path: Path, entries: dict[str, tuple[int, list[float]]]) -> ImatrixSums:
    parts = [struct.pack("<i", len(entries))]
    for name, (calls, values) in entries.items():
        parts.append(
            struct.pack(f"<i{len(name)}sii{len(values)}f", len(name), name.encode(), calls, len(values), *values)
        )
    path.write_bytes(b"".join(parts))
    return read_sums(path)


def test_the_older_format_and_gguf_add_up_by_their_counts(tmp_path: Path) -> None:
    older = legacy(tmp_path / "old", {UP: (2, [6, 8, 2, 4])})
    found = merge_sums([older, matrix()]).entries[UP]
    assert merge_sums([matrix(), older]).entries[UP].sums.tolist() == found.sums.tolist()
    assert found.sums.tolist() == [[1 + 6 * 512, 2 + 8 * 512], [2 * 512, 4 * 512]]
    assert found.counts.tolist() == [5 + 2 * 512, 2 * 512]


def test_an_expert_of_zeros_in_the_older_format_saw_nothing(tmp_path: Path) -> None:
    older = legacy(tmp_path / "old", {UP: (2, [6, 8, 0, 0])})
    found = merge_sums([older, matrix(factor=3)]).entries[UP]
    assert found.counts.tolist() == [15 + 2 * 512, 0]
    assert found.unseen == 1


def test_the_router_tells_where_the_experts_of_the_older_format_lie(tmp_path: Path) -> None:
    nan = float("nan")
    one = legacy(tmp_path / "a", {ROUTER: (1, [1, 1]), UP: (1, [0, 0, 1, 2, 3, 4]), DOWN: (1, [1] * 6 + [nan] * 3)})
    two = legacy(tmp_path / "b", {ROUTER: (3, [1, 1]), UP: (3, [3, 3, 3, 6, 0, 0]), DOWN: (3, [3.0] * 9)})
    merged = merge_sums([one, two]).entries
    assert merged[UP].means.tolist() == [[1, 1], [1, 2], [3, 4]]
    assert merged[UP].counts.tolist() == [3 * 512, 4 * 512, 512]
    assert merged[DOWN].means.tolist() == [[1] * 3] * 3
    assert (one.entries[UP].unseen, one.entries[DOWN].unseen) == (1, 1)


def test_nan_in_a_gguf_matrix_counts_as_unseen_and_another_matrix_fills_it(tmp_path: Path) -> None:
    broken = ImatrixSums({UP: entry([[1, float("nan")], [2, 2]], [5, 5])}, 4, ())
    write_imatrix(broken, tmp_path / "m")
    found = read_sums(tmp_path / "m").entries[UP]
    assert (found.sums.tolist(), found.counts.tolist()) == ([[0, 0], [2, 2]], [0, 5])
    assert merge_sums([read_sums(tmp_path / "m"), matrix()]).entries[UP].counts.tolist() == [5, 5]


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
    name = b"blk.0.attn_q.weight"
    stored = struct.pack("<ii", 1, len(name)) + name + struct.pack("<iiff", 4, 2, 2.0, 8.0)
    (tmp_path / "old.dat").write_bytes(stored)
    found = read_sums(tmp_path / "old.dat")
    q = found.entries["blk.0.attn_q.weight"]
    assert q.means.tolist() == [[0.5, 2.0]]
    assert q.counts.tolist() == [4 * 512]
