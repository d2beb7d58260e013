"""The files of a checkpoint directory: which are read, and what is said where some are missing or are not what they seem."""

import json
import re
import struct

import numpy
import pytest
from editable_checkpoint import write_safetensors
from twins import changed_case, convert_edited, file_of

from toolkit.checkpoint.checkpoint import open_checkpoint
from toolkit.errors import CheckpointError
from toolkit.sources.hf_source import source_from_checkpoint

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 4976698672\n"


def tensors(*names):
    return {name: ("F32", numpy.full(8, index, dtype="<f4")) for index, name in enumerate(names)}


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    return tmp_path


def write_index(directory, weight_map):
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")


def refused(directory, message):
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(directory)


def test_shards_are_read_with_and_without_an_index(directory):
    for number in (1, 2):
        write_safetensors(directory / f"model-0000{number}-of-00002.safetensors", tensors(f"t{number}"))
    assert set(open_checkpoint(directory).tensors) == {"t1", "t2"}
    write_index(directory, {f"t{number}": f"model-0000{number}-of-00002.safetensors" for number in (1, 2)})
    assert set(open_checkpoint(directory).tensors) == {"t1", "t2"}


def test_weights_of_another_naming_beside_the_shards_are_ignored_and_said(directory):
    write_safetensors(directory / "model.safetensors", tensors("a"))
    write_safetensors(directory / "consolidated.safetensors", tensors("b"))
    checkpoint = open_checkpoint(directory)
    assert set(checkpoint.tensors) == {"a"}
    assert checkpoint.warnings == ("ignored consolidated.safetensors: the weights are read from model.safetensors",)


def test_a_shard_that_the_index_names_and_nobody_has_is_named_with_its_number_of_tensors(directory):
    write_safetensors(directory / "model-00001-of-00002.safetensors", tensors("a"))
    second = "model-00002-of-00002.safetensors"
    write_index(directory, {"a": "model-00001-of-00002.safetensors", "b": second, "c": second})
    refused(directory, f"names {second}, absent from .*: 2 tensors are missing; download the rest")


def test_one_of_three_shards_without_an_index_is_refused(directory):
    write_safetensors(directory / "model-00002-of-00003.safetensors", tensors("a"))
    refused(directory, "shard 1 of 3 is missing beside model-00002-of-00003.safetensors")


def test_a_shard_cut_at_half_is_named_with_the_bytes_that_it_lacks(directory):
    path = directory / "model.safetensors"
    write_safetensors(path, tensors("a", "b", "c", "d"))
    path.write_bytes(path.read_bytes()[:-40])
    refused(directory, r"model.safetensors: truncated, \w ends \d+ bytes beyond the file")


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        ({"a": "../other.safetensors"}, "outside the checkpoint directory"),
        ({"a": "/etc/passwd"}, "outside the checkpoint directory"),
        ({"a": "parts/../../other.safetensors"}, "outside the checkpoint directory"),
        ({"a": "..\\other.safetensors"}, "outside the checkpoint directory"),
        ({"a": "C:other.safetensors"}, "outside the checkpoint directory"),
        ({"a": "m" * 5000 + ".safetensors"}, "names a file with a name of 5,012 characters, which no file has"),
        ({"a": "parts/" + "m" * 300}, "names a file with a name of 306 characters, which no file has"),
        ({"a": "nul\0.safetensors"}, "has no weight_map"),
        ({"a": 3}, "has no weight_map"),
        ({}, "has no weight_map"),
        (None, "has no weight_map"),
        ([], "has no weight_map"),
    ],
)
def test_an_index_that_is_none_is_refused(weight_map, message, directory):
    write_safetensors(directory / "model.safetensors", tensors("a"))
    write_index(directory, weight_map)
    refused(directory, message)


def test_shards_in_a_folder_of_the_checkpoint_are_read(directory):
    (directory / "parts").mkdir()
    write_safetensors(directory / "a.safetensors", tensors("a"))
    write_safetensors(directory / "parts" / "b.safetensors", tensors("b"))
    write_index(directory, {"a": "a.safetensors", "b": "parts/b.safetensors"})
    found = open_checkpoint(directory)
    assert {name: tensor.file.relative_to(directory).as_posix() for name, tensor in found.tensors.items()} == {
        "a": "a.safetensors",
        "b": "parts/b.safetensors",
    }
    assert found.warnings == ()
    (directory / "parts" / "b.safetensors").unlink()
    refused(directory, r"names parts/b\.safetensors, absent from ")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights.pt", "model.h5"])
def test_a_link_to_weights_that_are_gone_is_named(name, directory):
    (directory / name).symlink_to("../../blobs/0123")
    refused(directory, f"{name} is a link to a file that does not exist; fetch the model again")


@pytest.mark.parametrize(
    ("read", "others", "said"),
    [
        (
            ["model.safetensors"],
            ["pytorch_model.bin"],
            "ignored pytorch_model.bin: the weights are read from model.safetensors",
        ),
        (
            ["model.safetensors"],
            ["consolidated.safetensors"],
            "ignored consolidated.safetensors: the weights are read from model.saf",
        ),
        (
            ["model.safetensors"],
            ["tf_model.h5", "flax_model.msgpack"],
            "ignored flax_model.msgpack, tf_model.h5: the weights are ",
        ),
        (
            ["model-00001-of-00001.safetensors"],
            [f"consolidated.{number:02}.pth" for number in range(8)],
            "ignored consolidated.00.pth, consolidated.01.pth, consolidated.02.pth and 5 more: the weights are read from model-0",
        ),
        (["model.safetensors"], ["training_args.bin", "optimizer.pt", "rng_state_0.pth", "model-Q8_0.gguf"], None),
    ],
)
def test_of_two_sets_of_weights_the_one_that_is_not_read_is_named(read, others, said, directory):
    write_safetensors(directory / read[0], tensors("a"))
    for name in others:
        (directory / name).write_bytes(b"other weights")
    warnings = open_checkpoint(directory).warnings
    assert [warning[: len(said or "")] for warning in warnings] == ([said] if said else [])


def test_a_tensor_in_two_shards_is_refused(directory):
    for number in (1, 2):
        write_safetensors(directory / f"model-0000{number}-of-00002.safetensors", tensors("a"))
    refused(directory, "a is in both model-00001-of-00002.safetensors and model-00002-of-00002.safetensors")


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "config.json"])
def test_a_git_lfs_pointer_is_named_with_the_size_that_it_stands_for(name, directory):
    (directory / name).write_text(POINTER, encoding="utf-8")
    refused(directory, f"{name} is a git-lfs pointer to 4,976,698,672 bytes: run `git lfs pull`")


@pytest.mark.parametrize("name", ["tokenizer.model", "tokenizer.json"])
def test_a_tokenizer_that_is_a_git_lfs_pointer_is_refused(name, tmp_path):
    directory = changed_case("llama2", tmp_path)
    (directory / name).write_text(POINTER, encoding="utf-8")
    with pytest.raises(CheckpointError, match=f"{name} is a git-lfs pointer"):
        source_from_checkpoint(directory)


@pytest.mark.parametrize(
    ("name", "what"),
    [("model.pt", "PyTorch .pt weights"), ("tf_model.h5", "TensorFlow"), ("m.gguf", "a GGUF file")],
)
def test_weights_in_a_format_that_is_not_read_are_named(name, what, directory):
    (directory / name).write_bytes(b"PK")
    refused(directory, rf"holds {what}.* \({name}\) and no \*.safetensors")


@pytest.mark.parametrize("text", ["", "{", "[1]", '"text"', "[" * 100_000, "\0", '{"a": ' + "9" * 5000 + "}"])
def test_a_config_that_is_no_json_object_is_refused(text, directory):
    write_safetensors(directory / "model.safetensors", tensors("a"))
    (directory / "config.json").write_text(text, encoding="utf-8")
    refused(directory, "config.json (is not valid JSON|holds a JSON)")


def test_a_directory_that_is_none_and_one_without_a_config(tmp_path):
    refused(tmp_path / "absent", "is not a directory; give a Hugging Face checkpoint directory, or `demo`")
    refused(tmp_path, "has no config.json; it is not a Hugging Face checkpoint directory")


def test_a_file_of_a_checkpoint_and_a_folder_of_the_hubs_cache_come_with_the_right_place(directory):
    write_safetensors(directory / "model.safetensors", tensors("a"))
    place = re.escape(str(directory))
    refused(
        directory / "model.safetensors", f"is a file, not a directory; give the checkpoint that it is part of: {place}$"
    )
    snapshot = directory / "cache" / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}", encoding="utf-8")
    refused(
        directory / "cache", f"is a folder of the hub's cache; give the checkpoint in it: {re.escape(str(snapshot))}$"
    )


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer_config.json", "chat_template.jinja"])
def test_a_link_to_nothing_is_not_taken_for_an_absent_file(name, directory):
    write_safetensors(directory / "weights.safetensors", tensors("a"))
    (directory / name).symlink_to("../../blobs/0123")
    refused(directory, f"{name} is a link to a file that does not exist; fetch the model again")


def test_a_tensor_beyond_4_gib_converts_to_the_same_file(tmp_path):
    def spread(path):
        """Move the data of the last tensor 5 GiB up, across a hole in the file."""
        content = path.read_bytes()
        length = struct.unpack("<Q", content[:8])[0]
        header, body = json.loads(content[8 : 8 + length]), content[8 + length :]
        last = max(header, key=lambda name: header[name]["data_offsets"])
        start, stop = header[last]["data_offsets"]
        header[last]["data_offsets"] = [start + (5 << 30), stop + (5 << 30)]
        text = json.dumps(header).encode()
        with path.open("wb") as file:
            file.write(struct.pack("<Q", len(text)) + text + body[:start])
            file.seek(8 + len(text) + start + (5 << 30))
            file.write(body[start:stop])

    directory = changed_case("llama2", tmp_path / "a")
    spread(directory / "model.safetensors")
    assert (directory / "model.safetensors").stat().st_size > 5 << 30
    assert convert_edited(directory).read_bytes() == file_of("llama2", tmp_path / "b")


def test_the_last_shard_is_missed_like_the_others(directory):
    for number in (1, 2):
        write_safetensors(directory / f"model-0000{number}-of-00003.safetensors", tensors(f"t{number}"))
    refused(directory, "shard 3 of 3 is missing beside model-00001-of-00003")


def test_tensors_that_the_index_places_where_they_are_not_are_known(directory):
    write_safetensors(directory / "model-00001-of-00001.safetensors", tensors("t1"))
    write_index(directory, dict.fromkeys(("t1", "t2"), "model-00001-of-00001.safetensors"))
    assert open_checkpoint(directory).lost == {"t2": "model-00001-of-00001.safetensors"}


def test_safetensors_are_read_where_pytorch_weights_lie_beside_them(directory):
    write_safetensors(directory / "model.safetensors", tensors("t1"))
    (directory / "pytorch_model.bin").write_bytes(b"not read")
    assert set(open_checkpoint(directory).tensors) == {"t1"}
