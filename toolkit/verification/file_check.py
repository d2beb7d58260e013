"""The checks that every finished file passes before it gets its name: it holds what was planned, and llama.cpp loads it."""

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy

from toolkit.conversion.convert import converted_rows
from toolkit.conversion.shards import Shard
from toolkit.conversion.tensor_plan import ConversionPlan, TensorPlan
from toolkit.differences import first_difference
from toolkit.errors import FidelityError, GgufError
from toolkit.gguf.reader import GgufFile, read_gguf
from toolkit.gguf.rows import Bytes, row_count
from toolkit.llama import quantizer
from toolkit.llama.opening import check_opens
from toolkit.machine.mapped_files import unchanged
from toolkit.verification.weights import SLACK


def check_finished(path: Path, plan: ConversionPlan, *, shards: Sequence[Shard] = (), allow_nan: bool = False) -> None:
    """Read a file back and hold it against its plan, then have llama.cpp load it.

    Raises what `check_written` and `check_loads` raise.
    """
    check_written(path, plan, shards=shards, allow_nan=allow_nan)
    check_loads(path)


def check_written(path: Path, plan: ConversionPlan, *, shards: Sequence[Shard] = (), allow_nan: bool = False) -> None:
    """Read a file back and hold it against its plan: every byte of the header, and a row of every tensor.

    The header holds all tensors, special tokens and chat templates. The rows are read from the source and converted once
    more. Of a model that is split into `shards`, `path` is the first file.

    Raises FidelityError if something differs, GgufError if the file cannot be read.
    """
    file = read_gguf(path)
    headers = [shard.layout.header for shard in shards] or [plan.layout.header]
    for part, header in zip(file.paths, headers, strict=True):
        _check_header(part, header)
    with unchanged(plan.files):
        for tensor in plan.tensors:
            _check_row(tensor, file, allow_nan)


def check_loads(path: Path) -> None:
    """Have llama.cpp load the file without its weights, in a process of its own.

    Raises GgufError if it refuses.
    """
    reason = refusal(path)
    if reason is not None:
        raise GgufError(f"the finished file does not load, so it was not kept: {reason}")


def refusal(path: Path) -> str | None:
    """Return why llama.cpp refuses a file; None if it loads it.

    Raises EnvironmentFaultError if it cannot be asked.
    """
    try:
        check_opens(path)
    except GgufError as error:
        return str(error)
    return None


def _check_header(path: Path, expected: bytes) -> None:
    with path.open("rb") as file:
        found = file.read(len(expected))
    at = first_difference(found, expected)
    if at is not None:
        raise FidelityError(f"the finished file has another header than planned, from byte {at:,} on: {_ADVICE}")


def _check_row(tensor: TensorPlan, file: GgufFile, allow_nan: bool) -> None:
    row = zlib.crc32(tensor.name.encode()) % row_count(tensor.shape)
    found = file.tensors[tensor.name].read_rows(row, row + 1)
    expected = converted_rows(tensor, row, row + 1, allow_nan=allow_nan)
    if not (
        numpy.array_equal(found, expected)
        or (tensor.rounding is not None and _is_as_close(tensor, row, found, expected))
    ):
        raise FidelityError(
            f"row {row:,} of {tensor.name} in the finished file is not what the source gives: {_ADVICE}"
        )


def _is_as_close(tensor: TensorPlan, row: int, found: Bytes, expected: Bytes) -> bool:
    """Tell whether a calibrated row is as close to the source as a new one: its rounding depends on the rows beside it."""
    values = quantizer.to_float32(tensor.source.read_rows(row, row + 1), tensor.source.type)
    error, usual = (
        float(numpy.linalg.norm(quantizer.to_float32(rows, tensor.type) - values)) for rows in (found, expected)
    )
    return error <= SLACK * usual


_ADVICE = "the disk or the memory is at fault, or the source changed meanwhile; the file was not kept"
