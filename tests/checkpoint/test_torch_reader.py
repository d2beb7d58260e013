import json
import os
import zipfile
from pathlib import Path

import numpy
import pytest
from editable_checkpoint import edit_case
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch_files import pickled_call, state_dict, storage, tensor, write_archive, write_torch
from twins import convert_edited

from toolkit.checkpoint.checkpoint import open_checkpoint
from toolkit.checkpoint.torch_reader import read_torch
from toolkit.errors import CheckpointError
from toolkit.gguf.rows import row_count
from toolkit.llama.quantizer import to_float32

WRITTEN_BY_TORCH = Path(__file__).parents[1] / "data" / "torch_state.bin"
"""saved by torch 2.13: `plain` is arange(24) / 7 as [4, 6]; `transposed`, `offset`, `columns`, `tied` are views of it"""
PLAIN = (numpy.arange(24, dtype=numpy.float32) / numpy.float32(7)).reshape(4, 6)
BYTES = numpy.arange(24, dtype="<f4").tobytes()
ONE = storage("F32", "0", 24)


def values(stored):
    rows = stored.rows()
    return to_float32(rows.read_rows(0, row_count(stored.shape)), rows.type).reshape(stored.shape)


@pytest.fixture(scope="module")
def saved():
    return read_torch(WRITTEN_BY_TORCH)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plain", PLAIN),
        ("tied", PLAIN),
        ("transposed", PLAIN.T),
        ("offset", PLAIN[1:3]),
        ("columns", PLAIN[:, 2:5]),
        ("parameter", numpy.ones((2, 2))),
        ("half", (numpy.arange(5) / 3).astype(numpy.float16)),
        ("double", (numpy.arange(3) / 3).astype(numpy.float32)),
    ],
)
def test_views_of_shared_storages_are_read_by_offset_and_stride(name, expected, saved):
    assert numpy.array_equal(values(saved[name]), expected.astype(numpy.float32))


def test_every_tensor_that_torch_saved_is_there_with_its_type_and_shape(saved):
    assert {name: (stored.dtype, stored.shape) for name, stored in saved.items()} == {
        "plain": ("F32", (4, 6)),
        "transposed": ("F32", (6, 4)),
        "offset": ("F32", (2, 6)),
        "columns": ("F32", (4, 3)),
        "tied": ("F32", (4, 6)),
        "bf16": ("BF16", (2, 3)),
        "half": ("F16", (5,)),
        "double": ("F64", (3,)),
        "ints": ("I64", (4,)),
        "parameter": ("F32", (2, 2)),
        "scalar": ("F32", ()),
        "fp8": ("F8_E4M3", (4,)),
        "empty": ("F32", (0, 3)),
        "flags": ("BOOL", (2,)),
        "u32": ("U32", (3,)),
    }
    assert saved["bf16"].data.view("<u2").tolist() == [0, 16043, 16171, 16256, 16299, 16341]
    assert saved["fp8"].data.tolist() == [0x00, 0x38, 0x40, 0x44]


def test_rows_of_three_axes_are_gathered_in_any_range(tmp_path):
    view = tensor(ONE, (2, 3, 4), (1, 8, 2))
    stored = read_torch(write_archive(tmp_path / "m.bin", state_dict({"a": view}), {"0": BYTES}))["a"]
    expected = numpy.lib.stride_tricks.as_strided(numpy.arange(24, dtype="<f4"), (2, 3, 4), (4, 32, 8)).reshape(6, 4)
    assert numpy.array_equal(stored.rows().read_rows(1, 5).view("<f4"), expected[1:5])


def test_float64_views_that_are_not_contiguous_become_float32(tmp_path):
    view = tensor(storage("F64", "0", 4), (2, 2), (1, 2))
    file = write_archive(tmp_path / "m.bin", state_dict({"a": view}), {"0": numpy.arange(4, dtype="<f8").tobytes()})
    assert values(read_torch(file)["a"]).tolist() == [[0, 2], [1, 3]]


def as_shards(checkpoint, count, index=True):
    names = list(checkpoint.tensors)
    files = {}
    for number in range(count):
        file = f"pytorch_model-{number + 1:05}-of-{count:05}.bin" if count > 1 else "pytorch_model.bin"
        part = names[number::count]
        write_torch(checkpoint.directory / file, {name: checkpoint.tensors[name] for name in part})
        files |= dict.fromkeys(part, file)
    if index:
        text = json.dumps({"weight_map": files})
        (checkpoint.directory / "pytorch_model.bin.index.json").write_text(text, encoding="utf-8")
    for file in checkpoint.directory.glob("*.safetensors*"):
        file.unlink()
    return checkpoint.directory


@pytest.mark.parametrize(("count", "index"), [(1, False), (3, True), (3, False)])
@pytest.mark.parametrize("case", ["llama2", "qwen2"])
def test_a_checkpoint_in_bin_files_converts_to_the_same_file(case, count, index, tmp_path):
    checkpoint = edit_case(case, tmp_path)
    expected = convert_edited(checkpoint.directory).read_bytes()
    assert convert_edited(as_shards(checkpoint, count, index)).read_bytes() == expected


def test_safetensors_win_over_bin_files_and_a_training_state_is_no_shard(tmp_path):
    checkpoint = edit_case("llama2", tmp_path)
    (checkpoint.directory / "pytorch_model.bin").write_bytes(b"nothing")
    assert len(open_checkpoint(checkpoint.directory).tensors) == len(checkpoint.tensors)
    (checkpoint.directory / "optimizer.bin").write_bytes(b"nothing")
    assert len(open_checkpoint(as_shards(checkpoint, 1, index=False)).tensors) == len(checkpoint.tensors)


def test_a_missing_shard_is_named(tmp_path):
    directory = as_shards(edit_case("llama2", tmp_path), 3, index=False)
    (directory / "pytorch_model-00002-of-00003.bin").unlink()
    with pytest.raises(CheckpointError, match="shard 2 of 3 is missing"):
        open_checkpoint(directory)


def test_files_of_the_old_formats_are_refused_with_advice(tmp_path):
    for start, what in ((b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "bare pickle"), (bytes(257) + b"ustar", "tar")):
        (tmp_path / "m.bin").write_bytes(start + bytes(1000))
        with pytest.raises(CheckpointError, match=f"{what}.*save it as safetensors or with torch.save of PyTorch 1.6"):
            read_torch(tmp_path / "m.bin")
    (tmp_path / "m.bin").write_bytes(b"PK")
    with pytest.raises(CheckpointError, match="not a PyTorch file"):
        read_torch(tmp_path / "m.bin")


def write_zip(path, entries, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return path


GOOD = state_dict({"a": tensor(ONE, (4, 6), (6, 1))})


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([("x/other", b"")], "zip archive without data.pkl"),
        ([("x/data.pkl", GOOD)], "lacks 'data/0'"),
        ([("x/data.pkl", GOOD), ("x/data/0", BYTES), ("y/data/0", BYTES)], "'data/0' is in the zip archive twice"),
        ([("x/data.pkl", GOOD), ("x/data/0", BYTES[:40])], "reaches number 23 of a storage of 10"),
        ([("x/data.pkl", GOOD), ("x/data/0", BYTES), ("x/byteorder", "big")], "big-endian"),
        ([("x/data.pkl", GOOD), ("x/constants.pkl", b"")], "TorchScript"),
    ],
)
def test_archives_that_do_not_hold_what_their_pickle_says_are_refused(entries, message, tmp_path):
    with pytest.raises(CheckpointError, match=message):
        read_torch(write_zip(tmp_path / "m.bin", entries))


def test_a_zip_bomb_is_refused_before_it_is_inflated(tmp_path):
    file = write_zip(tmp_path / "m.bin", [("x/data.pkl", GOOD), ("x/data/0", bytes(1 << 26))], zipfile.ZIP_DEFLATED)
    assert file.stat().st_size < 1 << 17
    with pytest.raises(CheckpointError, match=r"'data\.pkl' is compressed"):
        read_torch(file)
    file = write_zip(tmp_path / "m.bin", [("x/data.pkl", GOOD)])
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data/0", bytes(1 << 26))
    with pytest.raises(CheckpointError, match="'data/0' is compressed"):
        read_torch(file)


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (tensor(ONE, (4, 6), (6, 1), offset=1), "reaches number 24 of a storage of 24"),
        (tensor(ONE, (4, 6), (6, 2)), "reaches number 28"),
        (tensor(ONE, (4, 6), (6, 1), offset=1 << 61), "reaches number"),
        (tensor(ONE, (1 << 40, 1 << 40), (0, 0)), "repeats the 24 numbers of its storage"),
        (tensor(ONE, (5, 6), (0, 1)), "repeats the 24 numbers of its storage"),
        (tensor(ONE, (4, 6), (-6, 1)), "its pickle is damaged"),
        (tensor(ONE, (4, 6), (6,)), "its pickle is damaged"),
        (tensor(ONE, (1,) * 9, (1,) * 9), "its pickle is damaged"),
        (tensor(ONE, (1 << 2000,), (1,)), "its pickle is damaged"),
        (tensor(storage("F32", "0", 1 << 50), (1 << 50,), (1,)), "reaches number"),
        (tensor(storage("F32", "../../etc/passwd", 4), (4,), (1,)), "lacks 'data/../../etc/passwd'"),
    ],
)
def test_views_beyond_their_storage_are_refused(view, message, tmp_path):
    with pytest.raises(CheckpointError, match=message):
        read_torch(write_archive(tmp_path / "m.bin", state_dict({"a": view}), {"0": BYTES}))


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_a_damaged_file_is_read_or_refused_but_never_anything_else(tmp_path, data):
    content = bytearray(WRITTEN_BY_TORCH.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "m.bin").write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
    try:
        tensors = read_torch(tmp_path / "m.bin")
    except CheckpointError:
        return
    assert all(stored.n_bytes <= len(content) for stored in tensors.values())


def test_the_command_refuses_a_hostile_file_with_one_line_and_runs_nothing(run_command, tmp_path):
    directory = edit_case("llama2", tmp_path).directory
    for file in directory.glob("*.safetensors"):
        file.unlink()
    write_archive(directory / "pytorch_model.bin", pickled_call(os.system, f"touch {tmp_path / 'canary'}"))
    finished = run_command("convert", directory, tmp_path / "out.gguf")
    assert finished.returncode == 2
    assert (
        f"pytorch_model.bin: its pickle asks for {os.system.__module__}.system, which no state dict needs"
        in finished.stderr
    )
    assert "Traceback" not in finished.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == [directory.name]
