"""`toolkit.inspect`, as a Python user calls it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_model import write_tiny_model

import toolkit
from toolkit.errors import InputError


def test_a_gguf_file_says_what_it_is_as_a_file_and_as_a_model(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "tiny.gguf")
    result = toolkit.inspect(model)
    assert result.paths == (model,)
    assert result.container is not None
    assert (result.container.file_bytes, result.container.version) == (model.stat().st_size, 3)
    assert (result.summary.architecture, result.summary.n_ctx_train) == ("llama", 1024)
    assert [tensor.type for tensor in result.tensors if tensor.name == "blk.0.attn_k.weight"] == ["F16"]


def test_a_checkpoint_has_the_names_that_its_tensors_get_and_no_container(
    kit_checkpoint: Callable[[str], Path],
) -> None:
    directory = kit_checkpoint("llama3")
    result = toolkit.inspect(str(directory))
    assert (result.paths, result.container) == ((directory,), None)
    assert "token_embd.weight" in {tensor.name for tensor in result.tensors}
    assert result.summary.n_tensors == len(result.tensors)


def test_what_does_not_exist_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        toolkit.inspect(tmp_path / "absent.gguf")
