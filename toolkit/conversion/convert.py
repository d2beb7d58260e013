"""Carry out a conversion plan: rows in, converted rows out, each at its place in the file."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy

from toolkit.conversion.shards import Shard
from toolkit.conversion.tensor_plan import ConversionPlan, TensorPlan
from toolkit.errors import TensorError
from toolkit.gguf.ggml_types import BF16, TensorType
from toolkit.gguf.layout import Layout
from toolkit.gguf.output_file import WorkFile, whole_or_absent
from toolkit.gguf.output_set import all_or_none
from toolkit.gguf.rows import Bytes, row_count, sampled_runs
from toolkit.llama import quantizer
from toolkit.machine.host import physical_cores
from toolkit.machine.load import one_blas_thread
from toolkit.machine.mapped_files import WatchedFile, check_unchanged, unchanged
from toolkit.rounding.row_rounding import MomentsRounding, TensorRows

WEIGHTS_PER_RANGE = 1 << 20
"""4 MiB as float32: large against the cost of a call, small against memory"""
_SAMPLED_RUNS, _SAMPLED_ROWS = 8, 4
"""of a matrix, on which calibrated rounding is chosen"""

Progress = Callable[[int], None]
Files = tuple[WatchedFile, ...]


@dataclass(frozen=True)
class ConversionOptions:
    """How a conversion is carried out; none of this changes a byte of its output."""

    threads: int | None = None
    force: bool = False
    allow_nan: bool = False
    progress: Progress = lambda _written_bytes: None
    check: Callable[[Path, ConversionPlan], None] = lambda _work_file, _plan: None
    """called with the complete file before it gets its name; raises to refuse it"""


@dataclass(frozen=True)
class RowRange:
    """A range of rows of one tensor, within one expert, and where its output belongs."""

    plan: TensorPlan
    start: int
    stop: int
    offset: int


def write_gguf(plan: ConversionPlan, output: Path, options: ConversionOptions | None = None) -> None:
    """Write the planned file under `output`, whole or not at all.

    Memory: a few ranges of WEIGHTS_PER_RANGE float32 weights a thread, whatever the model.

    Raises TensorError for weights that are not finite, InputError if a source changes meanwhile, InputError or OutputError if
    the output cannot be written.
    """
    options = options or ConversionOptions()
    with whole_or_absent(output, plan.file_bytes, force=options.force) as work:
        _write_parts([_Part(plan.tensors, plan.layout, work)], plan.files, options)
        options.check(work.path, plan)


def write_shards(
    plan: ConversionPlan, shards: Sequence[Shard], outputs: Sequence[Path], options: ConversionOptions
) -> None:
    """Write the files of a split model, all or none; `options.check` is called with the first of them.

    Raises as `write_gguf` does.
    """
    sizes = [(output, shard.layout.file_bytes) for output, shard in zip(outputs, shards, strict=True)]
    with all_or_none(sizes, force=options.force) as works:
        parts = [_Part(shard.tensors, shard.layout, work) for shard, work in zip(shards, works, strict=True)]
        _write_parts(parts, plan.files, options)
        options.check(works[0].path, plan)


def row_ranges(plans: tuple[TensorPlan, ...], layout: Layout) -> Iterator[RowRange]:
    """Cut every tensor into ranges of rows, each within one expert."""
    for plan, offset in zip(plans, layout.offsets, strict=True):
        row_bytes = plan.type.row_bytes(plan.shape[-1])
        step = max(1, WEIGHTS_PER_RANGE // plan.shape[-1])
        for matrix in range(0, row_count(plan.shape), plan.rows_per_matrix):
            end = matrix + plan.rows_per_matrix
            for start in range(matrix, end, step):
                yield RowRange(plan, start, min(start + step, end), offset + start * row_bytes)


@dataclass(frozen=True)
class _Part:
    """A file to write."""

    tensors: tuple[TensorPlan, ...]
    layout: Layout
    work: WorkFile


def _write_parts(parts: Sequence[_Part], files: Files, options: ConversionOptions) -> None:
    tensors = [tensor for part in parts for tensor in part.tensors]
    quantizer.prepare({tensor.type for tensor in tensors})
    quantizer.load_compiled_kernels(_to_quantize(tensors))
    calibrated = any(tensor.rounding is not None for tensor in tensors)
    with one_blas_thread() if calibrated else nullcontext():
        _write_tensors(parts, files, options)
    check_unchanged(files)
    for part in parts:
        part.work.write(0, part.layout.header)


def _to_quantize(tensors: Iterable[TensorPlan]) -> Counter[TensorType]:
    """Return how many weights are turned into each type."""
    counts: Counter[TensorType] = Counter()
    for tensor in tensors:
        if tensor.source.type is not tensor.type:
            counts[tensor.type] += math.prod(tensor.shape)
    return counts


def _write_tensors(parts: Sequence[_Part], files: Files, options: ConversionOptions) -> None:
    threads = options.threads or physical_cores()
    ranges = ((rows, part.work) for part in parts for rows in row_ranges(part.tensors, part.layout))
    with ThreadPoolExecutor(threads, thread_name_prefix="rows") as pool:
        running: set[Future[int]] = set()
        try:
            while True:
                running |= {
                    pool.submit(_convert, rows, work, files, options.allow_nan)
                    for rows, work in islice(ranges, 2 * threads - len(running))
                }
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                options.progress(sum(future.result() for future in done))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _convert(rows: RowRange, work: WorkFile, files: Files, allow_nan: bool) -> int:
    with unchanged(files):
        converted = converted_rows(rows.plan, rows.start, rows.stop, allow_nan=allow_nan)
        work.write(rows.offset, numpy.ascontiguousarray(converted).reshape(-1).data)
    return converted.nbytes


def converted_rows(plan: TensorPlan, start: int, stop: int, *, allow_nan: bool = False) -> Bytes:
    """Return uint8 [stop - start, row bytes] of the planned type, for rows of one expert.

    Raises TensorError for weights that are not finite, or too large for the type.
    """
    rows = plan.source.read_rows(start, stop)
    largest = 0.0 if allow_nan else quantizer.largest_magnitude(rows, plan.source.type)
    if not math.isfinite(largest):
        raise TensorError(_not_finite(plan, rows))
    importance = _importance_of(plan, start)
    quiet = allow_nan and plan.source.type is plan.type is BF16
    if plan.rounding is not None:
        converted = _rounded(plan, plan.rounding, start, rows)
    else:
        converted = quantizer.convert_rows(rows, plan.source.type, plan.type, importance, copy_equal=not quiet)
    if largest > quantizer.SAFE_MAGNITUDE and converted is not rows:
        _refuse_overflow(plan, converted)
    return converted


def _rounded(plan: TensorPlan, rounding: MomentsRounding, start: int, rows: Bytes) -> Bytes:
    def sample(matrix: int) -> quantizer.Floats:
        first = matrix * plan.rows_per_matrix
        runs = sampled_runs(plan.name, (plan.rows_per_matrix, plan.shape[-1]), _SAMPLED_RUNS, _SAMPLED_ROWS)
        parts = [plan.source.read_rows(first + run, first + stop) for run, stop in runs]
        return quantizer.to_float32(numpy.concatenate(parts), plan.source.type)

    tensor = TensorRows(plan.name, plan.type, sample)
    return rounding.round(tensor, start // plan.rows_per_matrix, quantizer.to_float32(rows, plan.source.type))


def _importance_of(plan: TensorPlan, row: int) -> quantizer.Floats | None:
    if plan.importance is None:
        return None
    length = plan.shape[-1]
    matrix = row // plan.rows_per_matrix
    return plan.importance[matrix * length : (matrix + 1) * length]


def _not_finite(plan: TensorPlan, rows: Bytes) -> str:
    values = quantizer.to_float32(rows, plan.source.type)
    n_nan, n_infinite = int(numpy.isnan(values).sum()), int(numpy.isinf(values).sum())
    return (
        f"{plan.name} holds {n_nan} NaN and {n_infinite} infinite weights in one range of rows; "
        "the checkpoint is damaged (--allow-nan converts it anyway)"
    )


def _refuse_overflow(plan: TensorPlan, converted: Bytes) -> None:
    lost = int((~numpy.isfinite(quantizer.to_float32(converted, plan.type))).sum())
    if not lost:
        return
    raise TensorError(
        f"{plan.name} has weights too large for {plan.type.name}, whose numbers end at 65504: {lost} would become "
        f"infinite in one range of rows; use --profile bf16 or f32, or --tensor-type '{plan.name}=bf16'"
    )
