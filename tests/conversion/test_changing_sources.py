"""Sources that are cut off or written to while they are read: one line, and nothing under the output's name."""

import os
import shutil
from pathlib import Path

import pytest
from editable_checkpoint import edit_case
from torch_files import write_torch

from toolkit.conversion.convert import ConversionOptions, write_gguf
from toolkit.conversion.tensor_plan import plan_conversion
from toolkit.errors import InputError
from toolkit.gguf.reader import read_gguf
from toolkit.model_source import ModelSource
from toolkit.quant_profile import load_profile
from toolkit.sources.gguf_source import source_from_gguf
from toolkit.sources.hf_source import source_from_checkpoint


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 3)


def cut_a_byte(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def write_into(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\7")
    os.utime(path, ns=(0, 0))  # a clock may tick more slowly than this test runs


FAULTS = {cut: "was cut off", cut_a_byte: "was cut off", write_into: "was modified"}


def safetensors(tmp_path: Path, _converted) -> tuple[ModelSource, Path]:
    directory = edit_case("llama3", tmp_path).directory
    return source_from_checkpoint(directory), next(directory.glob("*.safetensors"))


def torch_file(tmp_path: Path, _converted) -> tuple[ModelSource, Path]:
    checkpoint = edit_case("llama3", tmp_path)
    for file in checkpoint.directory.glob("*.safetensors*"):
        file.unlink()
    path = write_torch(checkpoint.directory / "pytorch_model.bin", checkpoint.tensors)
    return source_from_checkpoint(checkpoint.directory), path


def gguf(tmp_path: Path, converted) -> tuple[ModelSource, Path]:
    path = Path(shutil.copyfile(converted("llama3", "bf16"), tmp_path / "in.gguf"))
    return source_from_gguf(path), path


@pytest.mark.parametrize("source", [safetensors, torch_file, gguf], ids=lambda function: function.__name__)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda function: function.__name__)
@pytest.mark.parametrize(("profile", "allow_nan"), [("bf16", False), ("bf16", True), ("q8_0", False)])
def test_a_source_that_changes_meanwhile_makes_no_file(
    source, fault, profile, allow_nan, tmp_path, converted, monkeypatch
):
    monkeypatch.setattr("toolkit.conversion.convert.WEIGHTS_PER_RANGE", 4096)
    model, file = source(tmp_path, converted)
    plan, output = plan_conversion(model, load_profile(profile)), tmp_path / "out" / "m.gguf"
    output.parent.mkdir()
    told: list[int] = []

    def after_the_first_blocks(n_bytes: int) -> None:
        if not told:
            fault(file)
        told.append(n_bytes)

    options = ConversionOptions(threads=2, progress=after_the_first_blocks, allow_nan=allow_nan)
    with pytest.raises(InputError, match=rf"{file.name} {FAULTS[fault]} while it was read"):
        write_gguf(plan, output, options)
    assert told
    assert list(output.parent.iterdir()) == []


def test_a_source_that_changes_after_the_last_block_makes_no_file_either(tmp_path, converted):
    model, file = gguf(tmp_path, converted)
    plan, output = plan_conversion(model, load_profile("bf16")), tmp_path / "m.gguf"
    left = [sum(tensor.n_bytes for tensor in plan.tensors)]

    def after_the_last_block(n_bytes: int) -> None:
        left[0] -= n_bytes
        if not left[0]:
            cut(file)

    with pytest.raises(InputError, match="cut off"):
        write_gguf(plan, output, ConversionOptions(progress=after_the_last_block))
    assert not output.exists()


def test_a_source_that_is_replaced_meanwhile_is_read_to_its_end(tmp_path, converted):
    model, file = gguf(tmp_path, converted)
    output = tmp_path / "m.gguf"

    def replace(_n_bytes: int) -> None:
        file.unlink(missing_ok=True)
        file.write_bytes(b"another")

    write_gguf(plan_conversion(model, load_profile("bf16")), output, ConversionOptions(progress=replace))
    original = read_gguf(converted("llama3", "bf16"))
    for name, rows in read_gguf(output).tensors.items():
        assert rows.data.tobytes() == original.tensors[name].data.tobytes(), name
