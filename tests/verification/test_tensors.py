"""Names, shapes and blocks are held against the source."""

from dataclasses import replace

import pytest

from toolkit.gguf.format import uint32
from toolkit.gguf.reader import read_gguf
from toolkit.sources.gguf_source import source_from_gguf
from toolkit.verification.check import Outcome
from toolkit.verification.tensors import check_tensors


@pytest.fixture
def path(converted):
    return converted("llama3", "q8_0")


def failing(path, **changes):
    """Return what is found wrong in a file of which something was replaced: name of the check -> evidence."""
    source, file = source_from_gguf(path, allow_requantize=True), replace(read_gguf(path), **changes)
    return {check.name: check.evidence for check in check_tensors(source, file) if check.outcome is Outcome.FAIL}


def test_a_file_passes_against_itself(path):
    assert failing(path) == {}


def test_axes_in_the_other_order_are_told(path):
    tensors = read_gguf(path).tensors
    name, rows = next((name, rows) for name, rows in tensors.items() if len(set(rows.shape)) == 2)
    turned = tensors | {name: replace(rows, shape=rows.shape[::-1])}
    expected = f"{name} is {list(rows.shape[::-1])}, expected {list(rows.shape)}"
    assert failing(path, tensors=turned) == {"shapes": expected}


def test_a_tensor_that_is_not_in_the_source_is_told_by_its_name(path):
    tensors = read_gguf(path).tensors
    more = tensors | {"blk.0.other.weight": tensors["output_norm.weight"]}
    assert failing(path, tensors=more) == {"tensors": "not in the source: blk.0.other.weight"}


def test_the_output_of_tied_embeddings_may_be_written_out(path):
    tensors = read_gguf(path).tensors
    assert failing(path, tensors={name: rows for name, rows in tensors.items() if name != "output.weight"}) == {
        "tensors": "missing: output.weight"
    }


def test_a_block_that_is_missing_and_a_count_that_is_wrong_are_told(path):
    file = read_gguf(path)
    last = max(int(name.split(".")[1]) for name in file.tensors if name.startswith("blk."))
    fewer = {name: rows for name, rows in file.tensors.items() if not name.startswith(f"blk.{last}.")}
    assert failing(path, tensors=fewer).keys() == {"tensors", "blocks"}
    assert failing(path, metadata=file.metadata | {"llama.block_count": uint32(last)}).keys() == {"blocks"}
