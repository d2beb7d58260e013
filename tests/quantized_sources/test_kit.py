"""Ten quantized checkpoints: the values that they mean, bit for bit, and the files that llama.cpp's converter makes."""

import hashlib
import json
from pathlib import Path

import pytest
from compare import KIT, differences
from packed_checkpoint import values_of
from twins import convert_edited

from toolkit.checkpoint.checkpoint import open_checkpoint
from toolkit.quantized_sources.registry import decode_checkpoint
from toolkit.sources.hf_source import source_from_checkpoint

QUANTIZED = KIT / "quantized"
CASES = sorted(path.stem for path in (QUANTIZED / "expected").glob("*.json"))
WITH_REFERENCE = sorted(path.name for path in (QUANTIZED / "reference").iterdir())


def checkpoint_of(case: str, root: Path) -> Path:
    (root / case).mkdir()
    for file in (QUANTIZED / "checkpoints" / case).iterdir():
        (root / case / file.name).write_bytes(file.read_bytes())
    return root / case


@pytest.mark.parametrize("case", CASES)
def test_dequantized_values_are_exact_however_the_rows_are_read(case):
    checkpoint, _ = decode_checkpoint(open_checkpoint(QUANTIZED / "checkpoints" / case))
    expected = json.loads((QUANTIZED / "expected" / f"{case}.json").read_text(encoding="utf-8"))
    assert len(expected) == 7
    for name, described in expected.items():
        for step in (1000, 29):
            values = values_of(checkpoint.tensors[name], step)
            assert list(values.shape) == described["shape"]
            assert hashlib.sha256(values.astype("<f4").tobytes()).hexdigest() == described["sha256"]


@pytest.mark.parametrize("type_", ["f32", "f16"])
@pytest.mark.parametrize("case", WITH_REFERENCE)
def test_the_file_equals_the_reference(case, type_, tmp_path):
    output = convert_edited(checkpoint_of(case, tmp_path), type_)
    assert differences(case, output, type_, QUANTIZED) == []


@pytest.mark.parametrize("case", CASES)
def test_every_quantized_source_converts_to_a_4_bit_file_and_says_what_it_is(case, tmp_path):
    directory = checkpoint_of(case, tmp_path)
    assert convert_edited(directory, "q4_0").stat().st_size > 0
    method = {"bnb": "bitsandbytes", "compressed": "compressed-tensors"}.get(case.split("_")[0], case.split("_")[0])
    assert source_from_checkpoint(directory).quantization.startswith(method)
