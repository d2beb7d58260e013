"""Every way that we know for a GGUF file to be wrong, and the right ones."""

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import gguf
import numpy
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from toolkit.errors import GgufError
from toolkit.gguf.format import MetadataValue, ValueType, array, string, uint32
from toolkit.gguf.ggml_types import TYPES
from toolkit.gguf.header import MAX_ARRAY_ITEMS
from toolkit.gguf.layout import lay_out
from toolkit.gguf.reader import GgufFile, read_gguf

UINT16, UINT32, STRING, ARRAY = 2, 4, 8, 9


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def pair(key: str | bytes, type_: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", type_) + value


def tensor(
    name: str | bytes = "a", shape: Sequence[int] = (32,), type_: int = 0, offset: int = 0, n_dims: int | None = None
) -> bytes:
    """Return a tensor info; `shape` in the file's order."""
    count = len(shape) if n_dims is None else n_dims
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", count, *shape, type_, offset)


@dataclass(frozen=True)
class Parts:
    """A GGUF file in pieces, so that a test can make any of them wrong."""

    pairs: Sequence[bytes] = (pair("general.architecture", STRING, text("llama")),)
    tensors: Sequence[bytes] = (tensor(),)
    data: bytes = bytes(range(128))
    magic: bytes = b"GGUF"
    version: bytes = struct.pack("<I", 3)
    n_tensors: int | None = None
    n_pairs: int | None = None
    alignment: int = 32

    def header(self) -> bytes:
        n_tensors = len(self.tensors) if self.n_tensors is None else self.n_tensors
        n_pairs = len(self.pairs) if self.n_pairs is None else self.n_pairs
        counts = struct.pack("<QQ", n_tensors, n_pairs)
        return b"".join((self.magic, self.version, counts, *self.pairs, *self.tensors))

    def build(self) -> bytes:
        header = self.header()
        return header + bytes(-len(header) % self.alignment) + self.data


def read(content: bytes, folder: Path) -> GgufFile:
    path = folder / "model.gguf"
    path.write_bytes(content)
    return read_gguf(path)


def refusal(content: bytes, folder: Path) -> str:
    with pytest.raises(GgufError) as caught:
        read(content, folder)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{folder / 'model.gguf'}: ")
    return message


def with_pairs(*pairs: bytes) -> bytes:
    return Parts(pairs=pairs).build()


def with_tensors(*tensors: bytes) -> bytes:
    return Parts(tensors=tensors).build()


# What is right


@pytest.mark.parametrize("version", [2, 3])
def test_a_small_file_is_read(tmp_path: Path, version: int) -> None:
    content = Parts(version=struct.pack("<I", version)).build()
    file = read(content, tmp_path)
    assert (file.version, file.alignment, file.file_bytes) == (version, 32, len(content))
    assert file.metadata == {"general.architecture": string("llama")}
    assert file.path == tmp_path / "model.gguf"
    assert file.data_offset == file.tensor_offsets["a"] == len(content) - 128
    assert file.tensors["a"].read_rows(0, 1).tobytes() == bytes(range(128))


def test_shapes_have_the_row_length_last_and_tensors_keep_the_file_s_order(tmp_path: Path) -> None:
    content = Parts(
        tensors=(tensor("z", (32, 2), 8, 0), tensor("a", (32,), 8, 96), tensor("scalar", (), 0, 160)), data=bytes(164)
    ).build()
    tensors = read(content, tmp_path).tensors
    assert [(name, rows.shape, rows.type.name) for name, rows in tensors.items()] == [
        ("z", (2, 32), "Q8_0"),
        ("a", (32,), "Q8_0"),
        ("scalar", (1,), "F32"),
    ]


def test_an_alignment_of_the_file_s_own_is_kept(tmp_path: Path) -> None:
    aligned = (pair("general.alignment", UINT32, struct.pack("<I", 256)),)
    file = read(Parts(pairs=aligned, alignment=256).build(), tmp_path)
    assert (file.alignment, file.data_offset) == (256, 256)


def test_a_file_without_tensors_may_end_with_its_metadata(tmp_path: Path) -> None:
    assert read(Parts(tensors=()).header(), tmp_path).tensors == {}


def test_strings_that_are_not_utf8_are_kept_without_loss(tmp_path: Path) -> None:
    items = struct.pack("<IQ", STRING, 2) + text(b"\xff\xfe") + text("é")
    file = read(with_pairs(pair("tokens", ARRAY, items), pair("name", STRING, text(b"a\xc3"))), tmp_path)
    tokens = file.metadata["tokens"].value
    assert isinstance(tokens, tuple)
    assert [str(token).encode("utf-8", "surrogateescape") for token in tokens] == [b"\xff\xfe", "é".encode()]
    assert str(file.metadata["name"].value).encode("utf-8", "surrogateescape") == b"a\xc3"


def test_a_long_vocabulary_is_read_whole(tmp_path: Path) -> None:
    tokens = [f"▁token{number}" for number in range(300_000)]
    scores = numpy.arange(300_000, dtype="<f4")
    pairs = (
        pair("tokens", ARRAY, struct.pack("<IQ", STRING, len(tokens)) + b"".join(text(token) for token in tokens)),
        pair("scores", ARRAY, struct.pack("<IQ", 6, len(tokens)) + scores.tobytes()),
    )
    file = read(with_pairs(*pairs), tmp_path)
    assert file.metadata["tokens"] == array(ValueType.STRING, tokens)
    assert file.metadata["scores"] == array(ValueType.FLOAT32, scores.tolist())


NUMBERS = {
    ValueType.UINT8: st.integers(0, 2**8 - 1), ValueType.INT8: st.integers(-(2**7), 2**7 - 1),
    ValueType.UINT16: st.integers(0, 2**16 - 1), ValueType.INT16: st.integers(-(2**15), 2**15 - 1),
    ValueType.UINT32: st.integers(0, 2**32 - 1), ValueType.INT32: st.integers(-(2**31), 2**31 - 1),
    ValueType.UINT64: st.integers(0, 2**64 - 1), ValueType.INT64: st.integers(-(2**63), 2**63 - 1),
    ValueType.FLOAT32: st.floats(width=32, allow_nan=False), ValueType.FLOAT64: st.floats(allow_nan=False),
    ValueType.BOOL: st.booleans(), ValueType.STRING: st.text(max_size=20),
}  # fmt: skip
SCALARS = st.sampled_from(list(NUMBERS)).flatmap(lambda type_: st.builds(MetadataValue, st.just(type_), NUMBERS[type_]))
ARRAYS = st.sampled_from(list(NUMBERS)).flatmap(
    lambda type_: st.builds(array, st.just(type_), st.lists(NUMBERS[type_], min_size=1, max_size=5))
)
KEYS = st.text(min_size=1, max_size=20).filter(
    lambda key: "\0" not in key and not key.startswith(("GGUF.", "general.", "split."))
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(metadata=st.dictionaries(KEYS, SCALARS | ARRAYS, max_size=6))
def test_what_the_reference_writer_wrote_is_read_as_it_was(tmp_path: Path, metadata: dict[str, MetadataValue]) -> None:
    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    for key, value in metadata.items():
        given_value = list(value.value) if isinstance(value.value, tuple) else value.value
        item_type = None if value.item_type is None else gguf.GGUFValueType(value.item_type)
        writer.add_key_value(key, given_value, gguf.GGUFValueType(value.type), sub_type=item_type)
    weights = numpy.arange(12, dtype=numpy.float32).reshape(3, 4)
    writer.add_tensor("blk.0.attn_q.weight", weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = read_gguf(path)
    assert file.metadata == {"general.architecture": string("llama")} | metadata
    rows = file.tensors["blk.0.attn_q.weight"]
    assert rows.shape == (3, 4)
    assert rows.read_rows(1, 3).tobytes() == weights[1:].tobytes()


def test_a_tensor_beyond_four_gib_is_read_at_its_place(tmp_path: Path) -> None:
    first_bytes = 5 << 30
    header = Parts(tensors=(tensor("huge", (1 << 20, 5 << 10), 24), tensor("last", (4,), 0, first_bytes))).header()
    start = -(-len(header) // 32) * 32
    path = tmp_path / "model.gguf"
    with path.open("wb") as file:
        file.write(header)
        file.seek(start + first_bytes)
        file.write(struct.pack("<4f", 1, 2, 3, 4))
    found = read_gguf(path)
    assert found.file_bytes == start + first_bytes + 16
    assert found.tensor_offsets["last"] == start + first_bytes
    assert found.tensors["last"].read_rows(0, 1).view("<f4").tolist() == [[1, 2, 3, 4]]


# What is no GGUF file


@pytest.mark.parametrize(
    ("content", "description"),
    [
        (b"", "empty: the download or conversion did not finish"),
        (b"GG", "something that begins with b'GG'"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4294967296\n",
            "a git-lfs pointer to 4.00 GiB",
        ),
        (struct.pack("<Q", 14) + b'{"a":{"b": 1}}', "safetensors"),
        (b"PK\x03\x04rest", "a zip archive"),
        (b"\x80\x02rest", "a Python pickle"),
        (b"\x1f\x8brest", "a gzip archive"),
        (b"tjgg\x01\0\0\0", "a GGML file from before GGUF"),
        (b"<!DOCTYPE html>", "a web page"),
        (bytes(64), "zeros: the download did not finish"),
        (b"hello, world", "something that begins with b'hell'"),
    ],
)
def test_another_kind_of_file_is_called_by_its_name(tmp_path: Path, content: bytes, description: str) -> None:
    assert f"not a GGUF file but {description}" in refusal(content, tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(GgufError, match="no such file"):
        read_gguf(tmp_path / "model.gguf")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.gguf")
    with pytest.raises(GgufError, match="not a regular file"):
        read_gguf(tmp_path / "model.gguf")


# What is damaged

FEW = struct.pack("<Q", 2**63)
DAMAGED = {
    "version 1": (Parts(version=struct.pack("<I", 1)).build(), "GGUF version 1; known are 2 and 3"),
    "version 0": (Parts(version=struct.pack("<I", 0)).build(), "GGUF version 0"),
    "version 4": (Parts(version=struct.pack("<I", 4)).build(), "GGUF version 4"),
    "big-endian": (Parts(version=struct.pack(">I", 3)).build(), "big-endian"),
    "no version": (b"GGUF\x03", "the version at byte 4 takes 4 bytes, but the file ends at byte 5"),
    "ten million tensors": (Parts(n_tensors=10_000_000).build(), "claims 10,000,000 tensors, more than"),
    "2^64 - 1 tensors": (Parts(n_tensors=2**64 - 1).build(), "claims 18,446,744,073,709,551,615 tensors"),
    "2^63 keys": (Parts(n_pairs=2**63).build(), "claims 9,223,372,036,854,775,808 metadata keys"),
    "a key of 2^63 bytes": (with_pairs(FEW + b"key"), "metadata key 0 at byte 32 takes 9,223,372,036,854,775,808"),
    "a string of 2^63 bytes": (with_pairs(pair("k", STRING, FEW)), "a string in 'k' at byte"),
    "a string of 2^64 - 4 bytes": (with_pairs(pair("k", STRING, struct.pack("<Q", 2**64 - 4))), "a string in 'k'"),
    "an array of 2^61 numbers": (
        with_pairs(pair("k", ARRAY, struct.pack("<IQ", 10, 2**61))),
        f"at most {MAX_ARRAY_ITEMS:,} are read",
    ),
    "an array of one item too many": (
        with_pairs(pair("k", ARRAY, struct.pack("<IQ", 7, MAX_ARRAY_ITEMS + 1))),
        f"claims {MAX_ARRAY_ITEMS + 1:,} items, at most 4,194,304 are read",
    ),
    "a long array": (with_pairs(pair("k", ARRAY, struct.pack("<IQ", 10, 999))), "the value of 'k' at byte"),
    "many strings": (with_pairs(pair("k", ARRAY, struct.pack("<IQ", STRING, 99))), "claims 99 strings in 'k'"),
    "an array of arrays": (with_pairs(pair("k", ARRAY, struct.pack("<IQIQ", ARRAY, 1, 4, 0))), "an array of arrays"),
    "value type 13": (with_pairs(pair("k", 13, b"\0" * 8)), "'k' has value type 13"),
    "an item type 99": (with_pairs(pair("k", ARRAY, struct.pack("<IQ", 99, 1))), "'k' has value type 99"),
    "a key twice": (with_pairs(*[pair("k", 0, b"\1")] * 2), "metadata key 'k' is a duplicate"),
    "an empty key": (with_pairs(pair("", 0, b"\1")), "metadata key 0 at byte 32 is empty"),
    "a key that is not UTF-8": (with_pairs(pair(b"\xff", 0, b"\1")), "metadata key 0 at byte 32 is not UTF-8"),
    "alignment 0": (with_pairs(pair("general.alignment", UINT32, bytes(4))), "general.alignment is 0 (UINT32)"),
    "alignment 48": (
        with_pairs(pair("general.alignment", UINT32, struct.pack("<I", 48))),
        "general.alignment is 48 (UINT32); it must be a UINT32 power of two",
    ),
    "a text as alignment": (with_pairs(pair("general.alignment", STRING, text("32"))), "is '32' (STRING)"),
    "a tensor twice": (with_tensors(tensor(), tensor()), "tensor 'a' is a duplicate"),
    "a name that is not UTF-8": (with_tensors(tensor(b"\xff")), "the name of tensor 0 at byte"),
    "a name with a zero byte": (with_tensors(tensor("a\0b")), "holds a zero byte"),
    "a name of 64 bytes": (with_tensors(tensor("a" * 64)), "longer than 63 bytes"),
    "five dimensions": (with_tensors(tensor(shape=(1, 1, 1, 1, 1))), "has 5 dimensions, GGUF allows 4"),
    "2^32 - 1 dimensions": (with_tensors(tensor(n_dims=2**32 - 1)), "has 4,294,967,295 dimensions"),
    "a dimension of 0": (with_tensors(tensor(shape=(32, 0))), "tensor 'a' is empty: its shape is [0, 32]"),
    "a dimension of 2^63": (with_tensors(tensor(shape=(2**63,))), "bytes beyond the file"),
    "a product of 2^64": (with_tensors(tensor(shape=(2**32, 2**32))), "bytes beyond the file"),
    "a broken row": (
        with_tensors(tensor(shape=(33,), type_=8)),
        "tensor 'a' has rows of 33 weights, not whole Q8_0 blocks of 32",
    ),
    "type 99": (with_tensors(tensor(type_=99)), "tensor 'a' has type 99, which is unknown"),
    "a dropped type": (with_tensors(tensor(type_=31)), "has type 31, Q4_0_4_4, which llama.cpp dropped"),
    "an offset of 2^64 - 32": (with_tensors(tensor(offset=2**64 - 32)), "bytes beyond the file"),
    "an offset of 8": (with_tensors(tensor(offset=8)), "tensor 'a' has offset 8, not a multiple of 32"),
    "an overlap": (with_tensors(tensor("a"), tensor("b", offset=64)), "the data of tensors 'a' and 'b' overlap"),
    "data cut off": (Parts().build()[:-1], "the data of tensor 'a' ends 1 bytes beyond the file: cut off or damaged"),
    "a text cut off": (Parts().header()[:60], "but the file ends at byte 60"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_is_refused(tmp_path: Path, case: str) -> None:
    content, expected = DAMAGED[case]
    assert expected in refusal(content, tmp_path)


def test_a_header_that_never_ends_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(Parts(pairs=(pair("k", STRING, struct.pack("<Q", 300 << 20)),)).header())
    os.truncate(path, 400 << 20)
    with pytest.raises(GgufError, match="no header is longer than 256 MiB"):
        read_gguf(path)


def whole_file() -> bytes:
    items = struct.pack("<IQ", STRING, 2) + text("<s>") + text("</s>")
    pairs = (
        pair("general.architecture", STRING, text("llama")),
        pair("general.alignment", UINT32, struct.pack("<I", 64)),
        pair("tokenizer.ggml.tokens", ARRAY, items),
        pair("scores", ARRAY, struct.pack("<IQ2f", 6, 2, 0.5, 1.5)),
        pair("split.count", UINT16, struct.pack("<H", 1)),
    )
    tensors = (tensor("a", (32, 2), 8, 0), tensor("b", (8,), 0, 128))
    return Parts(pairs=pairs, tensors=tensors, data=bytes(160), alignment=64).build()


WHOLE = whole_file()


def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    for n_bytes in range(len(WHOLE)):
        path.write_bytes(WHOLE[:n_bytes])
        with pytest.raises(GgufError):
            read_gguf(path)
    assert read(WHOLE, tmp_path).split_metadata == {"split.count": MetadataValue(ValueType.UINT16, 1)}


CHANGES = st.lists(st.tuples(st.integers(0, len(WHOLE) - 161), st.binary(min_size=1, max_size=9)), max_size=4)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=CHANGES, cut=st.integers(0, 300), extra=st.binary(max_size=40))
@example(changes=[(8, b"\xff" * 8)], cut=0, extra=b"")
def test_random_damage_never_ends_in_anything_but_a_refusal(
    tmp_path: Path, changes: list[tuple[int, bytes]], cut: int, extra: bytes
) -> None:
    content = bytearray(WHOLE)
    for position, new in changes:
        content[position : position + len(new)] = new
    try:
        file = read(bytes(content[: len(content) - cut]) + extra, tmp_path)
    except GgufError:
        return
    for rows in file.tensors.values():
        assert len(rows.data) == rows.type.tensor_bytes(rows.shape)


# Models in several files


def part(number: int, count: int, total: int, tensors: Sequence[bytes], *, first_key: str | None = None) -> bytes:
    pairs = [
        pair("split.no", UINT16, struct.pack("<H", number)),
        pair("split.count", UINT16, struct.pack("<H", count)),
        pair("split.tensors.count", 5, struct.pack("<i", total)),
    ]
    if first_key:
        pairs.insert(0, pair(first_key, STRING, text("llama")))
    return Parts(pairs=pairs, tensors=tensors, data=bytes([number]) * 128 * max(len(tensors), 1)).build()


def write_parts(folder: Path) -> list[Path]:
    contents = [
        part(0, 3, 3, (), first_key="general.architecture"),
        part(1, 3, 3, (tensor("a"), tensor("b", offset=128))),
        part(2, 3, 3, (tensor("c"),)),
    ]
    paths = [folder / f"model-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return paths


@pytest.mark.parametrize("index", [0, 1, 2])
def test_any_part_gives_the_whole_model(tmp_path: Path, index: int) -> None:
    paths = write_parts(tmp_path)
    file = read_gguf(paths[index])
    assert file.paths == tuple(paths)
    assert file.metadata == {"general.architecture": string("llama")}
    assert sorted(file.split_metadata) == ["split.count", "split.no", "split.tensors.count"]
    assert [(name, int(rows.data[0])) for name, rows in file.tensors.items()] == [("a", 1), ("b", 1), ("c", 2)]
    assert file.file_bytes == sum(path.stat().st_size for path in paths)


def test_a_directory_with_one_model_gives_that_model(tmp_path: Path) -> None:
    write_parts(tmp_path)
    assert len(read_gguf(tmp_path).paths) == 3


def test_a_directory_with_no_or_several_models_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GgufError, match="no GGUF file in this directory"):
        read_gguf(tmp_path)
    write_parts(tmp_path)
    (tmp_path / "other.gguf").write_bytes(Parts().build())
    with pytest.raises(GgufError, match=r"more than one model \(model-00001-of-00003.gguf, other.gguf\); name"):
        read_gguf(tmp_path)


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    paths = write_parts(tmp_path)
    paths[1].unlink()
    with pytest.raises(GgufError, match=r"all 3 parts are needed; missing beside it: model-00002-of-00003\.gguf$"):
        read_gguf(paths[2])


def test_a_renamed_part_is_told_its_name(tmp_path: Path) -> None:
    path = write_parts(tmp_path)[0].rename(tmp_path / "model.gguf")
    with pytest.raises(GgufError, match=r"holds part 1 of 3, so its name must end in -00001-of-00003\.gguf"):
        read_gguf(path)


def test_parts_of_another_set_are_refused(tmp_path: Path) -> None:
    paths = write_parts(tmp_path)
    paths[1].write_bytes(part(2, 3, 3, (tensor("a"),)))
    with pytest.raises(GgufError, match=r"model-00002-of-00003\.gguf: holds part 3 of 3, not what its name says"):
        read_gguf(paths[0])


def test_a_part_without_its_number_is_refused(tmp_path: Path) -> None:
    content = with_pairs(pair("split.count", UINT16, struct.pack("<H", 3)))
    assert "a part of a split model without split.no" in refusal(content, tmp_path)


def test_a_text_as_number_of_parts_is_refused(tmp_path: Path) -> None:
    content = with_pairs(pair("split.count", STRING, text("3")))
    assert "split.count is STRING, not an integer" in refusal(content, tmp_path)


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        ((tensor("d"), tensor("c", offset=128)), "split.tensors.count says 3 tensors, its 3 parts hold 4"),
        ((tensor("a"),), "tensor 'a' is in more than one of the 3 parts"),
    ],
)
def test_parts_that_do_not_add_up_are_refused(tmp_path: Path, tensors: Sequence[bytes], expected: str) -> None:
    paths = write_parts(tmp_path)
    paths[2].write_bytes(part(2, 3, 3, tensors))
    with pytest.raises(GgufError, match=expected):
        read_gguf(paths[0])


def test_parts_joined_with_cat_are_refused(tmp_path: Path) -> None:
    paths = write_parts(tmp_path)
    joined = b"".join(path.read_bytes() for path in paths[1:])
    assert "joined with cat" in refusal(joined, tmp_path)


def test_a_number_in_the_name_of_a_whole_file_means_nothing(tmp_path: Path) -> None:
    path = tmp_path / "model-00001-of-00003.gguf"
    path.write_bytes(Parts().build())
    assert read_gguf(path).paths == (path,)


def test_every_known_type_is_read(tmp_path: Path) -> None:
    for type_ in TYPES.values():
        stored = replace(Parts(), tensors=(tensor("a", (type_.block_length, 2), type_.ggml_id),))
        content = replace(stored, data=bytes(2 * type_.block_bytes)).build()
        assert read(content, tmp_path).tensors["a"].type is type_


def test_a_vocabulary_size_key_is_a_plain_value(tmp_path: Path) -> None:
    file = read(with_pairs(pair("llama.vocab_size", UINT32, struct.pack("<I", 7))), tmp_path)
    assert file.metadata["llama.vocab_size"] == uint32(7)


@pytest.mark.parametrize("key", ["llama.block_count", "llama.expert_count"])
def test_a_count_that_lists_would_be_as_long_as_is_refused(key, tmp_path):
    path = tmp_path / "a.gguf"
    path.write_bytes(lay_out({key: MetadataValue(ValueType.UINT64, 2**64 - 1)}, []).header)
    with pytest.raises(GgufError, match=rf"{key} is 18,446,744,073,709,551,615, but no model has more than"):
        read_gguf(path)
