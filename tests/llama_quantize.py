"""llama.cpp's own quantization of a GGUF file, with the parameters that its llama-quantize gives it."""

import ctypes
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy
from llama_types_oracle import captured_log
from numpy.typing import NDArray

from toolkit.gguf.layout import encode
from toolkit.gguf.reader import read_gguf
from toolkit.llama.native import llama_cpp

Floats = NDArray[numpy.float32]


def llama_quantize(
    source: Path,
    output: Path,
    file_type: int,
    imatrix: Mapping[str, Floats] | None = None,
    types: Mapping[str, int] | None = None,
    requantize: bool = False,
) -> None:
    """Quantize a file; `imatrix` holds float32 [matrices * row length], `types` forces ggml types by pattern of name."""
    library = llama_cpp()
    params = library.llama_model_quantize_default_params()
    params.ftype, params.nthread, params.allow_requantize = file_type, os.cpu_count() or 1, requantize
    # The last entry stays empty, which is how llama.cpp sees the end.
    entries = (library.llama_model_imatrix_data * (len(imatrix or {}) + 1))()
    for entry, (name, values) in zip(entries, (imatrix or {}).items(), strict=False):
        entry.name, entry.size = name.encode(), values.size
        entry.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    patterns = (library.llama_model_tensor_override * (len(types or {}) + 1))()
    for slot, (pattern, type_) in zip(patterns, (types or {}).items(), strict=False):
        slot.pattern, slot.type = pattern.encode(), type_
    if imatrix is not None:
        params.imatrix = ctypes.cast(entries, ctypes.POINTER(library.llama_model_imatrix_data))
    if types:
        params.tt_overrides = ctypes.cast(patterns, ctypes.POINTER(library.llama_model_tensor_override))
    with captured_log() as log:
        status = library.llama_model_quantize(str(source).encode(), str(output).encode(), ctypes.byref(params))
    assert status == 0, "".join(log)[-2000:]


def contents(path: Path) -> dict[str, Any]:
    """Return the bytes of each metadata pair, and shape, type and SHA-256 of each tensor, by name.

    Our own reader, because the gguf library's takes seconds for a vocabulary.
    """
    file = read_gguf(path)
    return {
        "metadata": {key: (value.type, encode(value)) for key, value in file.metadata.items()},
        "tensors": {
            name: (rows.shape, rows.type.name, hashlib.sha256(rows.data).hexdigest())
            for name, rows in file.tensors.items()
        },
    }


def write_imatrix(path: Path, tensors: Mapping[str, tuple[int, ...]], seed: int = 7) -> dict[str, Floats]:
    """Write a random importance matrix for weights of these shapes, as llama-imatrix does; return what it means.

    The meaning is float32 [matrices * row length] by name: sums of squares divided by counts. The second half of the
    experts of a tensor, if it has experts, saw no token and has a count of 0, which means a weight of 1.
    """
    random = numpy.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "imatrix")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", ["random"])
    writer.add_uint32("imatrix.chunk_count", 10)
    writer.add_uint32("imatrix.chunk_size", 512)
    meaning: dict[str, Floats] = {}
    for name, shape in tensors.items():
        matrices = shape[0] if len(shape) == 3 else 1
        sums = random.gamma(0.5, 100, (matrices, shape[-1])).astype(numpy.float32)
        counts = numpy.where(numpy.arange(matrices) < (matrices + 1) // 2, 5120, 0).astype(numpy.float32)
        writer.add_tensor(f"{name}.in_sum2", sums)
        writer.add_tensor(f"{name}.counts", counts.reshape(-1, 1))
        with numpy.errstate(divide="ignore"):
            means = numpy.where(counts[:, None] > 0, sums / counts[:, None], 1)
        meaning[name] = numpy.ascontiguousarray(means.reshape(-1), numpy.float32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return meaning
