"""Split output: as llama-gguf-split cuts it, all files or none, and joined again to the same bytes."""

import errno
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
from tiny_model import write_tiny_model

from toolkit.conversion.convert import ConversionOptions, write_gguf, write_shards
from toolkit.conversion.shards import ShardLimit, split_plan
from toolkit.conversion.tensor_plan import plan_conversion
from toolkit.errors import InputError, OutputError
from toolkit.gguf.format import string
from toolkit.gguf.layout import lay_out
from toolkit.gguf.merge import plan_merge, write_merged
from toolkit.gguf.output_file import WorkFile
from toolkit.gguf.reader import read_gguf
from toolkit.gguf.shard_names import shard_path
from toolkit.llama.run_settings import RunSettings
from toolkit.llama.runtime import LlamaRuntime
from toolkit.quant_profile import load_profile
from toolkit.sources.gguf_source import source_from_gguf
from toolkit.verification.file_check import check_loads

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "gguf_split.json").read_text(encoding="utf-8"))
KIB = 1024


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    """Give the plan of the tiny model as it is."""
    model = write_tiny_model(tmp_path_factory.mktemp("tiny") / "tiny.gguf")
    return plan_conversion(source_from_gguf(model), load_profile("f32"))


def write_split(plan, folder, limit, **options):
    shards = split_plan(plan, limit)
    paths = [shard_path(folder / "m.gguf", number, len(shards)) for number in range(1, len(shards) + 1)]
    write_shards(plan, shards, paths, ConversionOptions(**options))
    return paths


def loads(path, _):
    check_loads(path)


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_files_are_those_of_llama_gguf_split_and_join_to_the_whole(plan, tmp_path):
    write_gguf(plan, tmp_path / "whole.gguf")
    assert digest(tmp_path / "whole.gguf") == GOLDEN["whole"], "another model than the golden files were made of"
    paths = write_split(plan, tmp_path, ShardLimit(max_tensors=8), check=loads)
    assert {path.name: digest(path) for path in paths} == GOLDEN["max_tensors_8"]
    for number, part in enumerate(paths):
        joined = tmp_path / f"joined-{number}.gguf"
        write_merged(plan_merge(part), joined, lambda _: None)
        assert joined.read_bytes() == (tmp_path / "whole.gguf").read_bytes()


def test_llama_cpp_computes_with_any_part_or_their_folder_what_it_does_with_the_whole(plan, tmp_path):
    write_gguf(plan, tmp_path / "whole.gguf")
    (tmp_path / "parts").mkdir()
    parts = write_split(plan, tmp_path / "parts", ShardLimit(max_tensors=8))
    logits = []
    for path in (tmp_path / "whole.gguf", *parts, tmp_path / "parts"):
        with LlamaRuntime(path, RunSettings(n_ctx=32, n_threads=1)) as runtime:
            logits.append(runtime.evaluate([1, *range(260, 276)], slice(None)).copy())
    assert all(numpy.array_equal(logits[0], others) for others in logits[1:])


@pytest.mark.parametrize("limit_kib", [600, 800, 1500])
def test_no_file_is_larger_than_the_limit_nor_smaller_than_it_must_be(limit_kib, plan, tmp_path):
    shards = split_plan(plan, ShardLimit(max_bytes=limit_kib * KIB))
    paths = write_split(plan, tmp_path, ShardLimit(max_bytes=limit_kib * KIB), check=loads)
    sizes = [path.stat().st_size for path in paths]
    assert sizes == [shard.layout.file_bytes for shard in shards]
    assert max(sizes) <= limit_kib * KIB
    for size, following in zip(sizes, shards[1:], strict=False):
        assert size + following.tensors[0].n_bytes + KIB > limit_kib * KIB
    assert [tensor for shard in shards for tensor in shard.tensors] == list(plan.tensors)


def test_metadata_that_leaves_no_room_for_a_tensor_has_the_first_file_to_itself(plan, tmp_path):
    metadata = plan.metadata | {"general.description": string("long " * 60_000)}
    wordy = replace(plan, metadata=metadata, layout=lay_out(metadata, plan.tensors))
    limit = ShardLimit(max_bytes=max(tensor.n_bytes for tensor in plan.tensors) + KIB)
    assert split_plan(wordy, limit)[0].tensors == ()
    paths = write_split(wordy, tmp_path, limit, check=loads)
    assert read_gguf(paths[-1]).metadata == metadata


def test_what_keeps_within_the_limit_is_one_file_as_without_it(plan):
    (only,) = split_plan(plan, ShardLimit(max_bytes=plan.file_bytes, max_tensors=len(plan.tensors)))
    assert only.layout == plan.layout


@pytest.mark.parametrize(
    ("n_bytes", "message"),
    [
        (100, "the metadata alone takes .* more than --split-max-size 100 B"),
        (
            20 * KIB,
            r"a file with token_embd.weight alone takes .* more than --split-max-size 20.0 KiB; tensors are not cut",
        ),
    ],
)
def test_limits_that_cannot_be_kept_are_refused(n_bytes, message, plan):
    with pytest.raises(InputError, match=message):
        split_plan(plan, ShardLimit(max_bytes=n_bytes))


def test_a_set_that_fails_in_its_last_file_leaves_nothing(plan, tmp_path, monkeypatch):
    write, writes = WorkFile.write, []

    def full_disk(self, offset, data):
        if self.path.name.endswith("00003.gguf") and offset == 0 and writes.count(self.path):
            raise OSError(errno.ENOSPC, "no space")
        writes.append(self.path)
        write(self, offset, data)

    monkeypatch.setattr(WorkFile, "write", full_disk)
    with pytest.raises(OutputError, match=r"no space for m-00001-of-00003\.gguf"):
        write_split(plan, tmp_path, ShardLimit(max_tensors=8))
    assert list(tmp_path.iterdir()) == []


def test_a_set_that_cannot_be_named_as_a_whole_is_not_named_in_part(plan, tmp_path):
    def somebody_takes_a_name(*_):
        (tmp_path / "m-00002-of-00003.gguf").write_bytes(b"a user's file")

    with pytest.raises(InputError, match=r"m-00002-of-00003\.gguf appeared while it was being written"):
        write_split(plan, tmp_path, ShardLimit(max_tensors=8), check=somebody_takes_a_name)
    assert [path.name for path in tmp_path.iterdir()] == ["m-00002-of-00003.gguf"]
    assert (tmp_path / "m-00002-of-00003.gguf").read_bytes() == b"a user's file"


def test_the_leftovers_of_a_killed_run_are_removed_and_a_users_folder_is_not(plan, tmp_path):
    paths = write_split(plan, tmp_path, ShardLimit(max_tensors=8))
    before = {path: path.read_bytes() for path in paths}
    prefix = f".gguf-{hashlib.sha256(paths[0].name.encode()).hexdigest()[:8]}"
    for number, name in ((1, "m-00001-of-00003.gguf"), (2, "notes.txt")):
        folder = tmp_path / f"{prefix}-999999999-{number}.part"
        folder.mkdir()
        (folder / name).write_bytes(b"GGUF" if number == 1 else b"a user's")
    write_split(plan, tmp_path, ShardLimit(max_tensors=8), force=True)
    assert {path: path.read_bytes() for path in paths} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{prefix}-999999999-2.part",
        *sorted(p.name for p in paths),
    ]


def test_no_file_is_larger_than_the_limit_however_it_falls(plan):
    smallest = max(shard.layout.file_bytes for shard in split_plan(plan, ShardLimit(max_tensors=1)))
    for limit in range(smallest + 64, plan.file_bytes, 4093):
        shards = split_plan(plan, ShardLimit(max_bytes=limit))
        assert max(shard.layout.file_bytes for shard in shards) <= limit
        assert [tensor for shard in shards for tensor in shard.tensors] == list(plan.tensors)
