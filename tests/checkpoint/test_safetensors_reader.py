import json
import struct

import numpy
import pytest
from editable_checkpoint import write_safetensors
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toolkit.checkpoint.safetensors_reader import read_safetensors
from toolkit.errors import CheckpointError

PLAIN = {"a": ("F32", numpy.arange(6, dtype="<f4").reshape(2, 3)), "b": ("BF16", numpy.arange(4, dtype="<u2"))}


def with_header(path, header, body=bytes(64)):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)
    return path


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def test_tensors_come_in_the_order_of_the_header_with_their_bytes(tmp_path):
    write_safetensors(tmp_path / "m.safetensors", PLAIN)
    tensors = read_safetensors(tmp_path / "m.safetensors")
    assert list(tensors) == ["a", "b"]
    assert (tensors["a"].dtype, tensors["a"].shape) == ("F32", (2, 3))
    assert tensors["b"].data.tobytes() == PLAIN["b"][1].tobytes()


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"a": entry(offsets=(0, 4))}, "a takes 8 bytes as F32 \\[2\\], but its offsets span 4"),
        ({"a": entry(dtype="F6_X")}, "a has the dtype 'F6_X'; known: BOOL"),
        ({"a": entry(shape=(100,), offsets=(0, 400))}, "truncated, a ends 336 bytes beyond the file"),
        ({"a": entry(), "b": entry(offsets=(4, 12))}, "the data of a and b overlap"),
        ({"a": {"dtype": "F32"}}, "the header entry of a lacks dtype, shape or data_offsets"),
        ({"a": entry(shape=(-2,))}, "the header entry of a is malformed"),
        ({"a": entry(offsets=(8, 0))}, "the header entry of a is malformed"),
        ({"a": entry(shape=(2.5,))}, "the header entry of a is malformed"),
        (b'{"a": ' + b"[" * 100_000, "its header is not the JSON of a safetensors file"),
        (b"[]", "its header is not a JSON object"),
        (b'{"a": 1, "a": 2}', "'a' is there twice"),
        (b"\xff\xfe{}", "its header is not the JSON of a safetensors file"),
    ],
)
def test_a_header_that_does_not_describe_the_file_is_refused(header, message, tmp_path):
    with pytest.raises(CheckpointError, match=message):
        read_safetensors(with_header(tmp_path / "m.safetensors", header))


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 1000])
def test_a_header_longer_than_the_file_is_refused(length, tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_bytes(struct.pack("<Q", length) + b"{}")
    with pytest.raises(CheckpointError, match=f"its header claims {length:,} bytes but 2 follow"):
        read_safetensors(path)


def test_an_empty_file_and_a_git_lfs_pointer_are_named_as_such(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="only 0 bytes"):
        read_safetensors(path)
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 4976698672\n")
    with pytest.raises(CheckpointError, match="git-lfs pointer to 4,976,698,672 bytes: run `git lfs pull`"):
        read_safetensors(path)


def test_a_tensor_beyond_4_gib_is_read_at_its_place(tmp_path):
    path = tmp_path / "big.safetensors"
    start = 5 << 30
    header = {"far": entry(shape=(4,), offsets=(start, start + 16)), "near": entry(shape=(1,), offsets=(0, 4))}
    text = json.dumps(header).encode()
    values = numpy.arange(4, dtype="<f4")
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.seek(8 + len(text) + start)
        file.write(values.tobytes())
    assert read_safetensors(path)["far"].data.tobytes() == values.tobytes()


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_a_damaged_file_is_read_or_refused_but_never_anything_else(tmp_path, data):
    path = tmp_path / "m.safetensors"
    write_safetensors(path, PLAIN)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "damaged.safetensors").write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        tensors = read_safetensors(tmp_path / "damaged.safetensors")
    except CheckpointError:
        return
    assert all(tensor.data.nbytes <= len(content) for tensor in tensors.values())


def test_four_bit_numbers_take_whole_bytes(tmp_path):
    path = with_header(tmp_path / "m.safetensors", {"a": entry("F4", (3,), (0, 2))}, bytes(2))
    assert read_safetensors(path)["a"].data.nbytes == 2
    with pytest.raises(CheckpointError, match="a takes 2 bytes as F4"):
        read_safetensors(with_header(tmp_path / "n.safetensors", {"a": entry("F4", (3,), (0, 1))}, bytes(2)))


def test_a_single_byte_that_is_missing_is_told(tmp_path):
    path = with_header(tmp_path / "m.safetensors", {"a": entry()}, bytes(7))
    with pytest.raises(CheckpointError, match="truncated, a ends 1 bytes beyond the file"):
        read_safetensors(path)
