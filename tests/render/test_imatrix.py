"""Importance matrices and second moments."""

import json
from pathlib import Path

import pytest

import toolkit
from toolkit.importance.moments import MomentsHeader
from toolkit.render.imatrix import contents_document, contents_lines, imatrix_document, written_line
from toolkit.reporter import LOGGING
from toolkit.verbs.imatrix import ImatrixResult, show_imatrix


@pytest.fixture(scope="module")
def collected(tiny, license_text, tmp_path_factory):
    output = tmp_path_factory.mktemp("imatrix") / "i.gguf"
    return toolkit.imatrix(tiny, output, text=license_text, n_ctx_seq=32, chunks=2)


def test_what_was_written_is_a_line_and_a_document(collected):
    line = written_line(collected)
    assert line.startswith(f"wrote {collected.output}: 14 tensors, 2 ")
    assert "of 32 tokens of " in line
    document = json.loads(json.dumps(imatrix_document(collected), allow_nan=False))
    assert (document["n_tensors"], document["chunks"], document["chunk_size"]) == (14, 2, 32)
    assert document["unseen_experts"] == 0


def test_second_moments_have_a_line_of_their_own():
    header = MomentsHeader({"blk.0.attn_q.weight": 256}, ("a.txt",), 32)
    result = ImatrixResult(Path("m.gguf"), None, header, 3, (), 1.0)
    assert written_line(result).startswith("wrote m.gguf: second moments of 1 inputs, 3 ")
    document = imatrix_document(result)
    assert (document["n_inputs"], document["chunks"], document["datasets"]) == (1, 3, ["a.txt"])


def test_a_matrix_is_shown_by_layers_and_tensors_with_the_most_important_first(collected, tiny):
    contents = show_imatrix(collected.output, Path(tiny), LOGGING)
    lines = contents_lines(contents)
    assert lines[1].endswith("that needs importance has it")
    document = json.loads(json.dumps(contents_document(contents), allow_nan=False))
    totals = {tensor["name"]: tensor["total"] for tensor in document["tensors"]}
    header = next(number for number, line in enumerate(lines) if line.startswith("most important"))
    shown = [line.split()[0] for line in lines[header + 1 : header + 13]]
    assert shown == sorted(totals, key=lambda name: -totals[name])[:12]
    assert lines[-1] == "and 2 more; --json has all"
    assert len(document["layers"]) == 2


def test_without_a_model_nothing_is_said_of_what_it_covers(collected):
    assert contents_document(show_imatrix(collected.output, None, LOGGING))["coverage"] is None
