"""The command `inspect`: what a person reads, and what a script reads."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import gguf
import numpy
import pytest
from click.testing import CliRunner, Result
from compare import KIT
from tiny_model import write_tiny_model

from toolkit.checkpoint.checkpoint import open_checkpoint
from toolkit.cli.inspect import command
from toolkit.errors import GgufError


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(command, list(map(str, arguments)), catch_exceptions=False)


def document(*arguments: str | Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(*arguments, "--json").stdout)
    return found


def lines(result: Result) -> dict[str, str]:
    """Return the labelled lines, by label."""
    return {line[:16].strip(): line[16:] for line in result.stdout.split("\n\n")[0].splitlines()}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "tiny.gguf")


def write_odd_model(path: Path, name: bytes) -> Path:
    """Write a small file whose name and tokens are whatever bytes they are."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_token_list([b"caf\xc3\xa9", b"\xff"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_tensor("a", numpy.zeros(4, numpy.float32))
    writer.add_string("general.name", "N" * len(name))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    path.write_bytes(path.read_bytes().replace(b"N" * len(name), name))
    return path


def test_a_person_reads_what_matters(model: Path) -> None:
    found = lines(run(model))
    assert found["file"] == str(model)
    assert found["model"] == "tiny, llama"
    assert found["read"] == "the header alone; to check the weights against their source: verify --source SRC"
    assert found["layers"] == "2, 4 heads, 2 of keys and values, 256 wide"
    assert found["context"] == "1,024 tokens"
    assert found["KV cache"] == "1.00 KiB a token in 2 layers"
    assert found["special tokens"] == "bos <s>(1), eos </s>(2), unknown <unk>(0)"
    assert found["chat template"] == "none"


def test_types_are_listed_with_their_share(model: Path) -> None:
    table = run(model).stdout.split("\n\n")[1].splitlines()
    assert table[0].split() == ["type", "tensors", "weights", "size", "share"]
    assert [line.split()[:2] for line in table[1:]] == [["F16", "16"], ["F32", "5"]]


def test_tensors_are_listed_when_asked_for(model: Path) -> None:
    assert "blk.0" not in run(model).stdout
    row = next(line for line in run(model, "--tensors").stdout.splitlines() if "blk.0.attn_k.weight" in line)
    assert row.split() == ["blk.0.attn_k.weight", "F16", "128", "x", "256", "64.0", "KiB"]


def test_a_script_reads_one_document(model: Path) -> None:
    found = document(model)
    assert found["schema"] == "gguf-toolkit/inspect/2"
    assert found["paths"] == [str(model)]
    assert found["file_bytes"] == model.stat().st_size
    assert found["n_head_kv"] == {"least": 2, "most": 2}
    assert found["kv_cache"]["bytes_per_token"] == 1024
    assert sum(share["bytes"] for share in found["types"]) == found["tensor_bytes"]
    assert "tensors" not in found


def test_a_script_may_ask_for_tensors(model: Path) -> None:
    tensors = document(model, "--tensors")["tensors"]
    assert {"name": "blk.0.attn_k.weight", "type": "F16", "shape": [128, 256], "bytes": 65536} in tensors


def test_a_checkpoint_is_shown_as_the_model_that_it_would_become(kit_checkpoint: Callable[[str], Path]) -> None:
    directory = kit_checkpoint("llama3")
    found = document(directory)
    assert (found["architecture"], found["n_layer"], found["paths"]) == ("llama", 2, [str(directory)])
    assert lines(run(directory))["checkpoint"] == str(directory)


def test_the_embedded_checkpoint_has_a_name() -> None:
    assert document("demo")["name"] == "Demo"


def test_a_directory_with_a_gguf_model_is_that_model(model: Path) -> None:
    assert document(model.parent)["paths"] == [str(model)]


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF\3\0\0\0" + b"\xff" * 16)
    with pytest.raises(GgufError, match="metadata keys, more than 0 bytes can hold"):
        run(tmp_path / "model.gguf")


def test_the_exit_code_of_a_refusal_is_two(run_command: Callable[..., CompletedProcess[str]], tmp_path: Path) -> None:
    result = run_command("inspect", tmp_path / "absent.gguf")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"error: {tmp_path / 'absent.gguf'}: no such file\n"


@pytest.mark.parametrize(("encoding", "cafe"), [("ascii", "caf\\xe9"), ("cp437", "café")])
def test_a_terminal_that_cannot_show_a_letter_gets_an_escape(tmp_path: Path, encoding: str, cafe: str) -> None:
    path = write_odd_model(tmp_path / "model.gguf", "模型".encode())
    result = CliRunner(charset=encoding).invoke(command, [str(path)], catch_exceptions=False)
    assert lines(result)["model"] == "\\u6a21\\u578b, llama"
    assert lines(result)["special tokens"] == f"bos {cafe}(0), eos \\udcff(1)"


def test_a_name_cannot_steer_the_terminal(tmp_path: Path) -> None:
    path = write_odd_model(tmp_path / "model.gguf", b"\x1b[2Jgone\n")
    assert "\x1b" not in run(path).stdout
    assert lines(run(path))["model"] == "\\x1b[2Jgone\\n, llama"


def test_bytes_that_are_no_text_do_not_break_the_document(tmp_path: Path) -> None:
    tokens = document(write_odd_model(tmp_path / "model.gguf", b"a\xff"))["vocabulary"]["special_tokens"]
    assert [token["text"] for token in tokens] == ["café", "\ufffd"]


def test_a_quantized_checkpoint_is_shown_as_it_is_stored() -> None:
    directory = KIT / "quantized" / "checkpoints" / "gptq_4bit"
    found = document(directory, "--tensors")
    share = next(share for share in found["types"] if share["type"] == "gptq, 4 bits")
    packed = sum(tensor.n_bytes for name, tensor in open_checkpoint(directory).tensors.items() if "_proj." in name)
    assert (share["n_tensors"], share["bytes"]) == (7, packed)
    assert found["bits_per_weight"] < 7
    assert "gptq, 4 bits" in run(directory).stdout
