"""Every companion and every setting of the kit's quantized checkpoints, wrong in turn: a CheckpointError or plain values."""

import numpy
import pytest
from compare import KIT
from odd_values import places, with_value
from packed_checkpoint import NAMES, write_packed

from toolkit.checkpoint.checkpoint import open_checkpoint
from toolkit.errors import CheckpointError
from toolkit.gguf.rows import row_count
from toolkit.quantized_sources.numbers import numbers
from toolkit.quantized_sources.registry import decode_checkpoint

CHECKPOINTS = KIT / "quantized" / "checkpoints"
CASES = sorted(path.name for path in CHECKPOINTS.iterdir())
MODULE = "model.layers.0.self_attn.k_proj."
WRONG_SETTINGS = (None, "x", [], {}, -1, 0, 1, 2**70, True, 1.5, ["x"], {"x": 1}, {"x": {}}, [None, None], [2**70, 1])
CHANGES = {
    "a scalar": lambda bits: bits.reshape(-1)[:1].reshape(()).copy(),
    "one number": lambda bits: bits.reshape(-1)[:1].copy(),
    "flat": lambda bits: bits.reshape(-1),
    "an axis more": lambda bits: bits[None],
    "transposed": lambda bits: numpy.ascontiguousarray(bits.T),
    "half": lambda bits: bits[: len(bits) // 2] if bits.ndim and len(bits) > 1 else bits,
    "none": lambda bits: bits[:0] if bits.ndim else bits,
    "floats": lambda bits: bits.astype(numpy.float32),
    "halves": lambda bits: bits.astype(numpy.float16),
    "bytes": lambda bits: bits.astype(numpy.uint8),
    "words": lambda bits: bits.astype(numpy.int32),
    "negative": lambda bits: -numpy.ones(bits.shape, dtype=numpy.int64),
}


def module_of(case):
    """Return the tensors of one module, as (dtype, array), and the quantization_config."""
    checkpoint = open_checkpoint(CHECKPOINTS / case)
    tensors = {name: tensor for name, tensor in checkpoint.tensors.items() if name.startswith(MODULE)}
    stored = {name: (tensor.dtype, numbers(tensor).bits) for name, tensor in tensors.items()}
    return stored, checkpoint.config["quantization_config"]


def open_and_read(directory, tensors, settings):
    """Return whether the checkpoint could be opened; then all its rows can be read."""
    try:
        opened, _ = decode_checkpoint(open_checkpoint(write_packed(directory, tensors, settings)))
    except CheckpointError:
        return False
    for tensor in opened.tensors.values():
        if tensor.dtype == "F32" and tensor.shape and 0 not in tensor.shape:
            assert len(tensor.rows().read_rows(0, row_count(tensor.shape))) == row_count(tensor.shape)
    return True


@pytest.mark.parametrize("case", CASES)
def test_a_companion_of_another_shape_or_type_is_refused_or_read(case, tmp_path):
    tensors, settings = module_of(case)
    assert open_and_read(tmp_path, tensors, settings)
    refused = 0
    for name, (dtype, bits) in tensors.items():
        for change in CHANGES.values():
            with numpy.errstate(over="ignore", invalid="ignore"):
                changed = change(bits)
            kept_dtype = dtype if changed.dtype == bits.dtype else NAMES[changed.dtype.name]
            refused += not open_and_read(tmp_path, tensors | {name: (kept_dtype, changed)}, settings)
    assert refused > len(tensors)


@pytest.mark.parametrize("case", CASES)
def test_a_setting_of_another_kind_is_refused_or_read(case, tmp_path):
    tensors, settings = module_of(case)
    refused = 0
    for place in places(settings):
        for value in WRONG_SETTINGS:
            refused += not open_and_read(tmp_path, tensors, with_value(settings, place, value))
    assert refused > 0
