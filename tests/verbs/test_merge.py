"""`toolkit.merge`, as a Python user calls it."""

from pathlib import Path

import pytest

import toolkit
from toolkit.errors import GgufError, InputError


@pytest.fixture
def split(tiny, tmp_path):
    return toolkit.quantize(tiny, tmp_path / "m.gguf", profile="q8_0", split_max_tensors=8)


def test_the_parts_of_a_model_are_joined_to_the_file_that_they_were_cut_from(split, tiny_q8_0, tmp_path):
    result = toolkit.merge(str(split.paths[1]), str(tmp_path / "whole.gguf"))
    assert (result.output, result.parts) == (tmp_path / "whole.gguf", split.paths)
    assert result.file_bytes == result.output.stat().st_size
    assert result.output.read_bytes() == Path(tiny_q8_0).read_bytes()


def test_a_part_that_is_absent_or_replaced_is_an_error(split, tiny, tmp_path):
    with pytest.raises(InputError, match="is the input itself"):
        toolkit.merge(split.paths[0], split.paths[1], force=True)
    with pytest.raises((GgufError, InputError), match="one whole file already"):
        toolkit.merge(tiny, tmp_path / "x.gguf")
    split.paths[2].unlink()
    with pytest.raises(GgufError):
        toolkit.merge(split.paths[0], tmp_path / "whole.gguf")
    assert not (tmp_path / "whole.gguf").exists()
