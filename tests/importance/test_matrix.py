"""Importance matrices: both formats give the values that llama-quantize uses; damage is refused by name."""

import struct
from collections.abc import Sequence
from pathlib import Path

import gguf
import numpy
import pytest

from toolkit.errors import ImatrixError
from toolkit.importance.matrix import Imatrix, check_against, read_imatrix

SUMS = numpy.array([[2.0, 4.0, 9.0, 1.0], [3.0, 6.0, 0.5, 7.0]], "float32")


def write_gguf_imatrix(
    path: Path,
    entries: dict[str, tuple[numpy.ndarray, Sequence[float]]],
    leave_out: Sequence[str] = (),
) -> Path:
    writer = gguf.GGUFWriter(path, "imatrix")
    values = {
        "imatrix.datasets": lambda key: writer.add_array(key, ["calibration.txt", "more.txt"]),
        "imatrix.chunk_count": lambda key: writer.add_uint32(key, 7),
        "imatrix.chunk_size": lambda key: writer.add_uint32(key, 512),
    }
    for key, add in values.items():
        if key not in leave_out:
            add(key)
    for name, (sums, counts) in entries.items():
        writer.add_tensor(f"{name}.in_sum2", sums)
        if "counts" not in leave_out:
            writer.add_tensor(f"{name}.counts", numpy.array(counts, "float32").reshape(-1, 1))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def legacy_bytes(entries: dict[str, tuple[int, Sequence[float]]], tail: bytes = b"") -> bytes:
    parts = [struct.pack("<i", len(entries))]
    for name, (calls, values) in entries.items():
        stored = name.encode()
        parts.append(struct.pack(f"<i{len(stored)}sii{len(values)}f", len(stored), stored, calls, len(values), *values))
    return b"".join(parts) + tail


def legacy_tail(chunks: int, dataset: str) -> bytes:
    stored = dataset.encode()
    return struct.pack(f"<ii{len(stored)}s", chunks, len(stored), stored)


def test_sums_are_divided_by_the_counts_of_each_expert(tmp_path: Path) -> None:
    path = write_gguf_imatrix(tmp_path / "m.gguf", {"blk.0.ffn_down_exps.weight": (SUMS, [2, 4])})
    imatrix = read_imatrix(path)
    expected = numpy.array([1, 2, 4.5, 0.5, 0.75, 1.5, 0.125, 1.75], "float32")
    numpy.testing.assert_array_equal(imatrix.entries["blk.0.ffn_down_exps.weight"], expected)
    assert imatrix.entries["blk.0.ffn_down_exps.weight"].dtype == numpy.float32
    assert imatrix.chunks == 7
    assert imatrix.datasets == ("calibration.txt", "more.txt")


def test_an_expert_without_tokens_gets_importance_one(tmp_path: Path) -> None:
    path = write_gguf_imatrix(tmp_path / "m.gguf", {"blk.0.ffn_up_exps.weight": (SUMS, [0, 0.6])})
    expected = numpy.array([1, 1, 1, 1, *SUMS[1]], "float32")
    numpy.testing.assert_array_equal(read_imatrix(path).entries["blk.0.ffn_up_exps.weight"], expected)


def test_a_count_for_all_rows_serves_the_whole_matrix(tmp_path: Path) -> None:
    path = write_gguf_imatrix(tmp_path / "m.gguf", {"blk.0.attn_q.weight": (SUMS[:1], [10])})
    expected = SUMS[0] / numpy.float32(10)
    numpy.testing.assert_array_equal(read_imatrix(path).entries["blk.0.attn_q.weight"], expected)


def test_the_legacy_format_is_known_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "named_wrongly.gguf"
    entries = {"blk.0.attn_q.weight": (4, [2.0, 4.0, 8.0]), "blk.0.attn_k.weight": (0, [5.0])}
    path.write_bytes(legacy_bytes(entries, legacy_tail(12, "wiki.train")))
    imatrix = read_imatrix(path)
    numpy.testing.assert_array_equal(imatrix.entries["blk.0.attn_q.weight"], numpy.array([0.5, 1, 2], "float32"))
    numpy.testing.assert_array_equal(imatrix.entries["blk.0.attn_k.weight"], numpy.array([5], "float32"))
    assert (imatrix.chunks, imatrix.datasets) == (12, ("wiki.train",))


def test_gguf_is_known_by_its_content_too(tmp_path: Path) -> None:
    path = write_gguf_imatrix(tmp_path / "imatrix.dat", {"blk.0.attn_q.weight": (SUMS[:1], [1])})
    assert list(read_imatrix(path).entries) == ["blk.0.attn_q.weight"]


def test_the_end_of_a_legacy_file_is_optional(tmp_path: Path) -> None:
    path = tmp_path / "old.dat"
    path.write_bytes(legacy_bytes({"blk.0.attn_q.weight": (1, [1.0])}))
    imatrix = read_imatrix(path)
    assert (imatrix.chunks, imatrix.datasets) == (0, ())


def test_a_legacy_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.dat"
    whole = legacy_bytes({"blk.0.attn_q.weight": (1, [1.0, 2.0])})
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ImatrixError, match=r"cut\.dat: neither GGUF nor a legacy importance matrix"):
            read_imatrix(path)


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (struct.pack("<i", -5), "the number of entries is -5"),
        (struct.pack("<ii", 1, 2**31 - 1), "a name of 2147483647 bytes"),
        (struct.pack("<ii1sii", 1, 1, b"a", 1, 2**31 - 1), "8589934588 bytes expected, 0 left"),
        (struct.pack("<ii1s", 1, 1, b"\xff"), "not UTF-8"),
    ],
)
def test_counts_beyond_the_file_are_refused_before_anything_is_allocated(
    tmp_path: Path, stored: bytes, message: str
) -> None:
    path = tmp_path / "hostile.dat"
    path.write_bytes(stored)
    with pytest.raises(ImatrixError, match=message):
        read_imatrix(path)


UP, SHAPE = "blk.0.ffn_up_exps.weight", (2, 3, 4)


def importance(path: Path, shape: tuple[int, ...] = SHAPE) -> tuple[list[float], list[str]]:
    """Return the weights of the tensor's columns, and what is said of them."""
    imatrix = read_imatrix(path)
    values = imatrix.importance(UP, shape)
    assert values is not None
    return values.tolist(), check_against(imatrix, [(UP, shape)])


def gguf_with_nan(path: Path) -> Path:
    sums = SUMS.copy()
    sums[0, 2] = numpy.nan
    return write_gguf_imatrix(path, {UP: (sums, [1, 2])})


def gguf_without_tokens(path: Path) -> Path:
    return write_gguf_imatrix(path, {UP: (SUMS, [0, 2])})


def gguf_of_zeros(path: Path) -> Path:
    return write_gguf_imatrix(path, {UP: (numpy.stack([SUMS[0] * 0, SUMS[1]]), [5, 2])})


def legacy_of_zeros(path: Path) -> Path:
    path.write_bytes(legacy_bytes({UP: (2, [0.0] * 4 + SUMS[1].tolist())}))
    return path


def legacy_with_nan(path: Path) -> Path:
    path.write_bytes(legacy_bytes({UP: (2, [1.0, float("nan"), 1.0, float("inf"), *SUMS[1].tolist()])}))
    return path


@pytest.mark.parametrize("write", [gguf_with_nan, gguf_without_tokens, gguf_of_zeros, legacy_of_zeros, legacy_with_nan])
def test_an_expert_of_which_nothing_is_known_weighs_one_and_is_named_in_every_format(write, tmp_path: Path) -> None:
    values, said = importance(write(tmp_path / "m"))
    assert values == [1, 1, 1, 1, *(SUMS[1] / 2).tolist()]
    assert said == [
        f"of 1 matrices in 1 tensors ({UP}: 1) the importance matrix has no values, or none that are numbers: all their weights count alike"
    ]


def test_a_whole_tensor_of_which_nothing_is_known_weighs_one(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(legacy_bytes({UP: (2, [0.0, 1.0, float("nan"), 3.0])}))
    assert importance(tmp_path / "m", (3, 4))[0] == [1, 1, 1, 1]


def test_the_importance_of_a_tensor_of_another_size_is_refused(tmp_path: Path) -> None:
    imatrix = read_imatrix(gguf_without_tokens(tmp_path / "m"))
    with pytest.raises(ImatrixError, match="has 8 values, but the tensor needs 12"):
        imatrix.importance(UP, (3, 3, 4))
    assert imatrix.importance("blk.1.attn_q.weight", (4, 4)) is None


def test_counts_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    path = write_gguf_imatrix(tmp_path / "m.gguf", {"blk.0.attn_v.weight": (SUMS, [1, float("nan")])})
    with pytest.raises(ImatrixError, match=r"counts of blk\.0\.attn_v\.weight hold NaN"):
        read_imatrix(path)


def test_a_model_is_no_importance_matrix(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    writer.add_tensor("output_norm.weight", SUMS)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ImatrixError, match="so it is not an importance matrix"):
        read_imatrix(tmp_path / "model.gguf")


@pytest.mark.parametrize("key", ["imatrix.datasets", "imatrix.chunk_count", "imatrix.chunk_size"])
def test_a_gguf_matrix_without_its_metadata_is_refused(tmp_path: Path, key: str) -> None:
    path = write_gguf_imatrix(tmp_path / "m.gguf", {"blk.0.attn_q.weight": (SUMS, [1, 1])}, leave_out=[key])
    with pytest.raises(ImatrixError, match=f"lacks {key}"):
        read_imatrix(path)


def test_sums_without_counts_are_refused(tmp_path: Path) -> None:
    path = write_gguf_imatrix(tmp_path / "m.gguf", {"blk.0.attn_q.weight": (SUMS, [1, 1])}, leave_out=["counts"])
    with pytest.raises(ImatrixError, match=r"blk\.0\.attn_q\.weight has sums but no counts"):
        read_imatrix(path)


def test_counts_that_do_not_divide_the_sums_are_refused(tmp_path: Path) -> None:
    path = write_gguf_imatrix(tmp_path / "m.gguf", {"blk.0.attn_q.weight": (SUMS, [1, 1, 1])})
    with pytest.raises(ImatrixError, match="8 sums for 3 counts"):
        read_imatrix(path)


def test_sums_of_another_type_are_refused(tmp_path: Path) -> None:
    path = write_gguf_imatrix(tmp_path / "m.gguf", {"blk.0.attn_q.weight": (SUMS.astype("float16"), [1, 1])})
    with pytest.raises(ImatrixError, match="stored as F16, expected F32"):
        read_imatrix(path)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ImatrixError, match="cannot be read"):
        read_imatrix(tmp_path / "absent.gguf")


def test_another_size_is_refused_by_the_name_of_the_tensor(tmp_path: Path) -> None:
    path = write_gguf_imatrix(tmp_path / "m.gguf", {"blk.0.attn_q.weight": (SUMS[:1], [1])})
    imatrix = read_imatrix(path)
    with pytest.raises(ImatrixError, match=r"blk\.0\.attn_q\.weight has 4 values, but the tensor needs 8"):
        check_against(imatrix, [("blk.0.attn_q.weight", (2, 8))])
    with pytest.raises(ImatrixError, match="needs 12"):
        check_against(imatrix, [("blk.0.attn_q.weight", (3, 2, 4))])


def test_unknown_names_are_listed_and_missing_ones_counted(tmp_path: Path) -> None:
    names = ["blk.0.attn_q.weight", *(f"blk.9.{part}.weight" for part in ("a", "b", "c", "d"))]
    path = write_gguf_imatrix(tmp_path / "m.gguf", {name: (SUMS[:1], [1]) for name in names})
    tensors = [
        ("token_embd.weight", (6, 4)),
        ("blk.0.attn_norm.weight", (4,)),
        ("blk.0.attn_q.weight", (4, 4)),
        ("blk.0.attn_k.weight", (4, 4)),
        ("blk.0.ffn_gate_inp.weight", (8, 4)),
        ("blk.0.ffn_up_exps.weight", (8, 4, 4)),
    ]
    assert check_against(read_imatrix(path), tensors) == [
        "4 tensors in the importance matrix but not in the model: "
        "blk.9.a.weight, blk.9.b.weight, blk.9.c.weight and 1 more",
        "2 tensors without importance: blk.0.attn_k.weight, blk.0.ffn_up_exps.weight",
    ]


def test_a_matrix_that_fits_is_not_worth_a_word(tmp_path: Path) -> None:
    path = write_gguf_imatrix(tmp_path / "m.gguf", {"blk.0.ffn_up_exps.weight": (SUMS, [1, 1])})
    assert check_against(read_imatrix(path), [("blk.0.ffn_up_exps.weight", (2, 3, 4))]) == []


def test_a_matrix_of_other_names_altogether_is_refused(tmp_path: Path) -> None:
    path = write_gguf_imatrix(tmp_path / "m.gguf", {"layers.0.wq": (SUMS, [1, 1])})
    with pytest.raises(ImatrixError, match="it has no tensor of this model"):
        check_against(read_imatrix(path), [("blk.0.attn_q.weight", (2, 4))])


@pytest.mark.parametrize("length", [31, 33, 64])
def test_a_tensor_of_another_size_belongs_to_another_model(length: int) -> None:
    matrix = Imatrix(Path("m.imatrix"), {"a": numpy.ones(length, numpy.float32)}, 1)
    with pytest.raises(ImatrixError, match=f"a has {length} values, but the tensor needs 32"):
        matrix.importance("a", (4, 32))


def test_a_name_of_the_older_format_is_not_longer_than_names_are(tmp_path: Path) -> None:
    path = tmp_path / "old.dat"
    path.write_bytes(struct.pack("<ii", 1, 1025) + b"n" * 1025 + struct.pack("<iif", 1, 1, 2.0))
    with pytest.raises(ImatrixError, match="a name of 1025 bytes"):
        read_imatrix(path)
