"""`toolkit.quantize`, as a Python user calls it."""

from pathlib import Path

import pytest

import toolkit
from toolkit.errors import GgufError, ImatrixError, InputError, OutputError


def test_a_file_is_written_as_it_was_planned_and_named_by_strings(tiny, tmp_path):
    result = toolkit.quantize(tiny, str(tmp_path / "small.gguf"), profile="q8_0")
    assert (result.written, result.paths) == (True, (tmp_path / "small.gguf",))
    assert result.file_bytes == result.paths[0].stat().st_size < Path(tiny).stat().st_size
    assert result.plan.profile.name == "Q8_0"


def test_a_dry_run_knows_the_size_and_writes_nothing(tiny, tmp_path):
    result = toolkit.quantize(tiny, tmp_path, profile="q4_k_m", dry_run=True, tensor_types=["attn_v=q8_0"])
    types = {tensor.name: tensor.type.name for tensor in result.plan.tensors}
    assert (result.written, list(tmp_path.iterdir())) == (False, [])
    assert (types["blk.0.attn_v.weight"], types["blk.0.attn_q.weight"]) == ("Q8_0", "Q4_K")


def test_sizes_of_split_files_may_be_text(tiny, tmp_path):
    result = toolkit.quantize(tiny, tmp_path / "m.gguf", profile="q8_0", split_max_size="500K")
    assert [path.name for path in result.paths] == [path.name for path in sorted(tmp_path.iterdir())]
    assert len(result.paths) > 1
    assert all(
        path.stat().st_size == shard.layout.file_bytes for path, shard in zip(result.paths, result.shards, strict=True)
    )


def test_an_importance_matrix_may_be_named_by_a_string(tiny, license_text, tmp_path):
    matrix = toolkit.imatrix(tiny, str(tmp_path / "i.gguf"), text=license_text, n_ctx_seq=32, chunks=1)
    weighed = toolkit.quantize(tiny, tmp_path / "weighed.gguf", profile="q4_0", imatrix=str(matrix.output))
    plain = toolkit.quantize(tiny, tmp_path / "plain.gguf", profile="q4_0")
    assert weighed.paths[0].read_bytes() != plain.paths[0].read_bytes()
    with pytest.raises(ImatrixError, match="No such file"):
        toolkit.quantize(tiny, tmp_path / "x.gguf", imatrix=str(tmp_path / "absent.gguf"))


def test_neither_the_input_nor_a_file_that_exists_is_replaced(tiny, tiny_q8_0, tmp_path):
    with pytest.raises(InputError, match="is the input itself"):
        toolkit.quantize(tiny, tiny, profile="q8_0", force=True)
    (tmp_path / "kept.gguf").write_text("mine", "utf-8")
    with pytest.raises((InputError, OutputError), match="exists"):
        toolkit.quantize(tiny, tmp_path / "kept.gguf", profile="q8_0")
    assert (tmp_path / "kept.gguf").read_text("utf-8") == "mine"


def test_what_is_not_a_gguf_file_is_refused(license_text, tmp_path):
    with pytest.raises(GgufError):
        toolkit.quantize(license_text, tmp_path / "x.gguf")
    assert list(tmp_path.iterdir()) == []
