"""What bitsandbytes, HQQ, MLX, compressed-tensors and AutoGPTQ store means here, bit for bit, what it means to them."""

import hashlib
import json
import struct
from pathlib import Path

import numpy
import pytest
from editable_checkpoint import read_safetensors
from packed_checkpoint import open_packed, values_of

from toolkit.gguf.rows import row_count
from toolkit.llama.quantizer import to_float32
from toolkit.quantized_sources.repack import repacked

GOLDEN = Path(__file__).parents[1] / "golden" / "quantized_by_libraries.safetensors"
TENSORS = read_safetensors(GOLDEN)


def described():
    data = GOLDEN.read_bytes()
    metadata = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])["__metadata__"]
    return {name: json.loads(text) for name, text in metadata.items()}


CASES = described()


def opened(name, directory):
    tensors = {key.removeprefix(f"{name}/"): value for key, value in TENSORS.items() if key.startswith(f"{name}/")}
    checkpoint, _ = open_packed(directory, tensors, CASES[name]["quantization_config"])
    assert list(checkpoint.tensors) == ["m.weight"]
    return checkpoint.tensors["m.weight"]


@pytest.mark.parametrize("name", sorted(CASES))
def test_the_weights_are_those_that_the_library_gives(name, tmp_path):
    for step in (7, 24):
        values = values_of(opened(name, tmp_path), step).astype("<f4") + 0  # no zero is negative
        assert hashlib.sha256(values.tobytes()).hexdigest() == CASES[name]["sha256"]


def test_mxfp4_of_compressed_tensors_is_kept_as_it_is(tmp_path):
    tensor = opened("compressed-tensors mxfp4", tmp_path)
    kept = repacked(tensor)
    assert (kept.rows.type.name, kept.worst_difference) == ("MXFP4", 0)
    blocks = kept.rows.read_rows(0, row_count(kept.rows.shape))
    assert numpy.array_equal(to_float32(blocks, kept.rows.type), values_of(tensor))
