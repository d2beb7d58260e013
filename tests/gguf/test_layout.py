from dataclasses import dataclass

import gguf
import numpy
import pytest

from toolkit.errors import MetadataError, TensorError
from toolkit.gguf.format import MetadataValue, ValueType, array, boolean, float32, int32, string, uint32
from toolkit.gguf.ggml_types import F32, TYPES, TensorType
from toolkit.gguf.layout import bits_per_weight, lay_out
from toolkit.gguf.reader import read_gguf

METADATA = {
    "general.architecture": string("llama"),
    "a.u32": uint32(7),
    "a.i32": int32(-7),
    "a.f32": float32(0.1),
    "a.bool": boolean(True),
    "a.u64": MetadataValue(ValueType.UINT64, 2**63),
    "a.f64": MetadataValue(ValueType.FLOAT64, 0.1),
    "a.i8": MetadataValue(ValueType.INT8, -3),
    "a.text": string("模型 Ž é"),
    "a.strings": array(ValueType.STRING, ["<s>", "", "▁the"]),
    "a.numbers": array(ValueType.INT32, [1, -2, 3]),
    "a.none": array(ValueType.STRING, []),
}


@dataclass
class Tensor:
    name: str
    shape: tuple[int, ...]
    type: TensorType = F32


def write(path, metadata, tensors):
    layout = lay_out(metadata, tensors)
    content = bytearray(layout.file_bytes)
    content[: len(layout.header)] = layout.header
    for number, (tensor, offset) in enumerate(zip(tensors, layout.offsets, strict=True)):
        content[offset : offset + tensor.type.tensor_bytes(tensor.shape)] = bytes(
            [number + 1]
        ) * tensor.type.tensor_bytes(tensor.shape)
    path.write_bytes(content)
    return gguf.GGUFReader(path)


def test_the_gguf_library_reads_back_every_kind_of_metadata(tmp_path):
    reader = write(tmp_path / "m.gguf", METADATA, [Tensor("t", (2, 32))])
    for key, value in METADATA.items():
        if key == "a.none":
            assert len(reader.fields[key].data) == 0
            continue
        read = reader.fields[key].contents()
        expected = list(value.value) if isinstance(value.value, tuple) else value.value
        assert read == (pytest.approx(expected) if isinstance(expected, float) else expected)


def test_the_gguf_library_finds_every_tensor_at_its_place(tmp_path):
    tensors = [
        Tensor("odd", (3,)),
        Tensor("blk.0.q", (4, 64), TYPES["Q8_0"]),
        Tensor("experts", (2, 3, 256), TYPES["Q4_K"]),
    ]
    reader = write(tmp_path / "m.gguf", METADATA, tensors)
    for number, (ours, read) in enumerate(zip(tensors, reader.tensors, strict=True)):
        assert read.name == ours.name
        assert tuple(int(length) for length in reversed(read.shape)) == ours.shape
        assert set(numpy.asarray(read.data).view(numpy.uint8).reshape(-1).tolist()) == {number + 1}


def test_tensor_data_is_aligned_as_the_metadata_asks():
    tensors = [Tensor("a", (3,)), Tensor("b", (5,))]
    assert all(offset % 32 == 0 for offset in lay_out(METADATA, tensors).offsets)
    wide = lay_out({**METADATA, "general.alignment": uint32(256)}, tensors)
    assert all(offset % 256 == 0 for offset in wide.offsets)
    assert wide.file_bytes % 256 == 0


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ([Tensor("a", (1,)), Tensor("a", (1,))], "a would be a duplicate"),
        ([Tensor("n" * 64, (1,))], "longer than the 63 bytes"),
        ([Tensor("a", (1, 1, 1, 1, 1))], "a has 5 dimensions; GGUF allows 1 to 4"),
    ],
)
def test_names_and_shapes_that_gguf_cannot_hold_are_refused(tensors, message):
    with pytest.raises(TensorError, match=message):
        lay_out(METADATA, tensors)


@pytest.mark.parametrize(
    ("value", "type_"),
    [
        (MetadataValue(ValueType.UINT32, 2**32), "UINT32"),
        (MetadataValue(ValueType.INT32, 1.5), "INT32"),
        (MetadataValue(ValueType.UINT64, -1), "UINT64"),
        (MetadataValue(ValueType.FLOAT32, 1e39), "FLOAT32"),
        (MetadataValue(ValueType.FLOAT32, 10**400), "FLOAT32"),
        (MetadataValue(ValueType.FLOAT32, "x"), "FLOAT32"),
        (string("\ud800"), "STRING"),
        (array(ValueType.STRING, ["\ud800"]), "STRING"),
        (array(ValueType.INT32, [1, 2**31]), "INT32"),
    ],
)
def test_a_value_that_its_type_cannot_hold_is_refused_by_its_key(value, type_):
    with pytest.raises(MetadataError, match=rf"^a\.key would be .*, which {type_} cannot hold$"):
        lay_out({"a.key": value}, [])


@pytest.mark.parametrize(
    ("make", "value"),
    [
        (uint32, 1.5),
        (uint32, -1),
        (uint32, 2**32),
        (uint32, True),
        (uint32, "1"),
        (int32, 2**31),
        (int32, [1]),
        (float32, 1e39),
        (float32, float("nan")),
        (float32, 10**400),
        (float32, "0.5"),
    ],
)
def test_a_number_of_another_kind_or_range_never_becomes_metadata(make, value):
    with pytest.raises(MetadataError, match=r"is not a (whole number from|finite 32-bit)"):
        make(value)


def test_bytes_that_are_not_utf_8_are_the_same_after_reading_and_writing(tmp_path):
    odd = b"\xff\xfe half a character: \xe2\x96"
    plain = lay_out({"general.architecture": string("llama"), "a.text": string("?" * len(odd))}, [Tensor("t", (32,))])
    first, again = tmp_path / "first.gguf", tmp_path / "again.gguf"
    first.write_bytes(plain.header.replace(b"?" * len(odd), odd).ljust(plain.file_bytes, b"\0"))
    file = read_gguf(first)
    layout = lay_out(file.metadata, file.shaped_tensors)
    again.write_bytes(layout.header.ljust(layout.file_bytes, b"\0"))
    assert again.read_bytes() == first.read_bytes()
    assert odd in again.read_bytes()


def test_a_name_may_have_as_many_bytes_as_llama_cpp_has_room_for():
    assert lay_out({}, [Tensor("n" * 63, (32,))]).offsets
    for name in ("n" * 64, "ä" * 32):
        with pytest.raises(TensorError, match="63 bytes"):
            lay_out({}, [Tensor(name, (32,))])


def test_bits_are_those_of_all_weights_together():
    tensors = [Tensor("a", (4, 256), TYPES["Q4_K"]), Tensor("b", (12, 256), TYPES["F16"])]
    assert bits_per_weight(tensors) == (4.5 + 3 * 16) / 4
    assert bits_per_weight([]) == 0


def test_a_tensor_that_no_offset_reaches_past_is_refused():
    with pytest.raises(TensorError, match=r"^a would have the shape \[.*\], more weights than fit any disk"):
        lay_out({}, [Tensor("a", (1 << 31, 1 << 31)), Tensor("b", (1, 1))])
