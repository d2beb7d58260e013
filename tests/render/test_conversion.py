"""Conversions, of a GGUF file, in parts, and merged."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

import toolkit
from toolkit.render.conversion import conversion_document, conversion_lines, merge_document, merge_lines
from toolkit.verbs.merge import MergeResult


@pytest.fixture(scope="module")
def planned(tiny):
    return toolkit.quantize(tiny, "small.gguf", profile="q8_0", dry_run=True)


def test_a_dry_run_lists_every_tensor_and_names_no_file(planned):
    lines = conversion_lines(planned)
    assert lines[0].split() == ["tensor", "shape", "type", "bytes"]
    assert sum(line.startswith("blk.") for line in lines) == 18
    assert not any(line.startswith("wrote") for line in lines)
    document = conversion_document(planned)
    assert document["output"] is None
    assert len(document["tensors"]) == 21


def test_what_was_written_is_summed_up_by_type(planned):
    lines = conversion_lines(replace(planned, written=True, seconds=1.0))
    assert lines[0].split() == ["type", "tensors", "bytes", "share"]
    assert [line.split()[:2] for line in lines[1:3]] == [["Q8_0", "16"], ["F32", "5"]]
    assert f"({planned.file_bytes:,} bytes)" in lines[3]
    assert lines[3].endswith("bits per weight")
    assert lines[-1].startswith("wrote small.gguf in ")


def test_several_files_are_listed_with_their_share_of_the_tensors(tiny):
    split = toolkit.quantize(tiny, "m.gguf", profile="q8_0", dry_run=True, split_max_tensors=11)
    listed = [line.split()[:2] for line in conversion_lines(split) if line.startswith("m-0000")]
    assert listed == [["m-00001-of-00002.gguf", "11"], ["m-00002-of-00002.gguf", "10"]]
    document = json.loads(json.dumps(conversion_document(split), allow_nan=False))
    assert [(file["path"], file["n_tensors"]) for file in document["files"]] == [(path, int(n)) for path, n in listed]
    assert sum(file["file_bytes"] for file in document["files"]) == document["file_bytes"]
    assert "m-00001-of-00002.gguf and 1 more" in conversion_lines(replace(split, written=True))[-1]


def test_a_type_that_rows_cannot_have_names_the_one_that_it_stands_for(planned):
    tensors = planned.plan.tensors
    fallen = replace(tensors[0], fallback_from=tensors[0].type)
    lines = conversion_lines(replace(planned, plan=replace(planned.plan, tensors=(fallen, *tensors[1:]))))
    name = tensors[0].type.name
    assert f"{name} (for {name})" in next(line for line in lines if line.startswith(tensors[0].name))


def test_a_merged_file_is_a_line():
    result = MergeResult(Path("whole.gguf"), (Path("a"), Path("b")), 3 << 20, 2.0)
    (line,) = merge_lines(result)
    assert line.startswith("wrote whole.gguf (3.00 MiB) from 2 parts in 2")
    assert merge_document(result) == {
        "output": "whole.gguf", "parts": ["a", "b"], "file_bytes": 3 << 20, "seconds": 2.0,
    }  # fmt: skip
