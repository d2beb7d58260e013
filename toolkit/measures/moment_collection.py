"""Collect second moments while a model reads a text: X^T X of what its weights are multiplied with.

ggml calls back before and after every multiplication. Weights that share an input (query, key and value; gate and up) are
recognised by the tensor that they are multiplied with, and it is summed up once.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

from toolkit.errors import InputError, QualityError
from toolkit.gguf.format import EMBEDDING, OUTPUT
from toolkit.gguf.ggml_types import F32
from toolkit.importance.moments import InputMoments, InputShape, MomentsHeader
from toolkit.llama.ggml_tensor import GgmlTensor, operation_number, read_values, tensor_at
from toolkit.llama.runtime import LlamaRuntime
from toolkit.measures.chunks import Chunks, cut_chunks, evaluate_group
from toolkit.measures.evaluation_text import tokens_of
from toolkit.measures.imatrix_collection import Calibration, weight_name
from toolkit.reporter import SILENT_TASK, Task

Floats = NDArray[numpy.float32]
Doubles = NDArray[numpy.float64]

HELD_OUT_EVERY = 5
"""one chunk in so many is held out"""
_SMALLEST_BATCH = 16


class _Sums:
    """What is summed up for one input."""

    def __init__(self, shape: InputShape) -> None:
        self.shape = shape
        square = (2, shape.matrices, shape.row_length, shape.row_length)
        self.sums: Doubles = numpy.zeros(square, numpy.float64)
        self.tokens = numpy.zeros((2, shape.matrices), numpy.int64)

    def add(self, half: int, matrix: int, rows: Floats) -> None:
        """Add rows [n, row length] that a matrix was multiplied with; `half` is 1 for text that is held out."""
        # Of a batch in 32 bits, which BLAS does fastest, and of all batches in 64.
        self.sums[half, matrix] += rows.T @ rows
        self.tokens[half, matrix] += len(rows)

    def moments(self) -> InputMoments:
        """Return the means."""
        means = self.sums / numpy.maximum(self.tokens, 1)[:, :, None, None]
        return InputMoments(self.shape, (means[0], means[1]), self.tokens)


class MomentCollector:
    """Sums up X^T X of some inputs; ggml calls it for every node.

    In the first batch it learns which weights share an input, and sums up nothing.
    """

    def __init__(self) -> None:
        self._multiply, self._multiply_experts = operation_number("MUL_MAT"), operation_number("MUL_MAT_ID")
        self._owners: dict[int, str] = {}
        self._shared: dict[str, list[str]] = {}
        self._lengths: dict[str, tuple[int, int]] = {}
        self._wanted: Mapping[str, _Sums] | None = None
        self._half = 0

    def __call__(self, pointer: int, ask: bool, _user_data: object) -> bool:
        """Answer whether a node is of interest, or take its numbers."""
        node = tensor_at(pointer)
        if not self._is_product(node):
            return False
        name = weight_name(tensor_at(node.src[0]).name)
        if ask:
            return self._wants(name, node)
        self._collect(name, node)
        return True

    def shapes(self) -> tuple[InputShape, ...]:
        """Return the inputs of the model, known after the first batch."""
        return tuple(InputShape((name, *self._shared[name]), *self._lengths[name]) for name in self._lengths)

    def collect_into(self, wanted: Mapping[str, _Sums], half: int) -> None:
        """Sum up these inputs, by name, from now on."""
        self._wanted, self._half = wanted, half

    def _is_product(self, node: GgmlTensor) -> bool:
        if node.op == self._multiply_experts:
            return True
        if node.op != self._multiply:
            return False
        inputs = tensor_at(node.src[1])
        name = weight_name(tensor_at(node.src[0]).name)
        return (
            inputs.type == F32.ggml_id
            and inputs.ne[1] >= _SMALLEST_BATCH
            and (name.startswith("blk.") or name in (OUTPUT, EMBEDDING))
        )

    def _wants(self, name: str, node: GgmlTensor) -> bool:
        if self._wanted is not None:
            return name in self._wanted
        weight, input_ = tensor_at(node.src[0]), int(node.src[1])
        owner = self._owners.setdefault(input_, name)
        if owner == name:
            matrices = int(weight.ne[2] * weight.ne[3])
            self._lengths[name] = (int(weight.ne[0]), matrices)
            self._shared.setdefault(name, [])
        elif name not in self._shared[owner]:
            self._shared[owner].append(name)
        return False

    def _collect(self, name: str, node: GgmlTensor) -> None:
        assert self._wanted is not None
        sums, values = self._wanted[name], read_values(node.src[1], numpy.float32)
        if not numpy.isfinite(values).all():
            raise QualityError(f"{name} was multiplied with NaN or infinite values, so there are no second moments")
        if node.op == self._multiply_experts:
            self._add_routed(sums, values[0], read_values(node.src[2], numpy.int32)[0, 0])
            return
        matrices = sums.shape.matrices
        for index, rows in enumerate(values.reshape(-1, *values.shape[-2:])):
            sums.add(self._half, index % matrices, numpy.ascontiguousarray(rows))

    def _add_routed(self, sums: _Sums, values: Floats, experts: NDArray[numpy.int32]) -> None:
        """Add activations [tokens, slots or 1, row length] to the experts [tokens, slots] that they were routed to."""
        for expert in numpy.unique(experts):
            tokens, slots = numpy.nonzero(experts == expert)
            sums.add(self._half, int(expert), values[tokens, slots % values.shape[1]])


@dataclass(frozen=True)
class MomentsRun:
    """A model and a text, of which the inputs are known."""

    runtime: LlamaRuntime
    collector: MomentCollector
    chunks: Chunks
    header: MomentsHeader

    def passes(self, memory_bytes: int) -> list[list[InputShape]]:
        """Return the inputs in as many parts as fit the memory; the text is read once for each.

        Raises InputError if not even one input fits.
        """
        parts: list[list[InputShape]] = [[]]
        for shape in self.header.inputs:
            if shape.sum_bytes > memory_bytes:
                raise InputError(
                    f"the second moments of {shape.name} take {shape.sum_bytes:,} bytes; give --moments-memory more"
                )
            if sum(other.sum_bytes for other in parts[-1]) + shape.sum_bytes > memory_bytes:
                parts.append([])
            parts[-1].append(shape)
        return parts

    def collect(self, memory_bytes: int, task: Task = SILENT_TASK) -> Iterator[InputMoments]:
        """Yield the moments of every input; the task shows the chunks done over all passes."""
        parts = self.passes(memory_bytes)
        for number, part in enumerate(parts):
            sums = {shape.name: _Sums(shape) for shape in part}
            for chunk in range(self.chunks.count):
                self.collector.collect_into(sums, int(chunk % HELD_OUT_EVERY == HELD_OUT_EVERY - 1))
                for _ in evaluate_group(self.runtime, self.chunks, range(chunk, chunk + 1), slice(None)):
                    pass
                task.update(number * self.chunks.count + chunk + 1, len(parts) * self.chunks.count)
            for shape in part:
                yield sums.pop(shape.name).moments()


def start_moments(runtime: LlamaRuntime, collector: MomentCollector, calibration: Calibration) -> MomentsRun:
    """Return what a run needs to know, after one chunk; the collector is the runtime's `on_tensor`.

    Raises TextError if the text is too short, InputError if there are too few chunks to hold one out.
    """
    chunks = cut_chunks(tokens_of(runtime, calibration.text), calibration.n_ctx_seq, calibration.max_chunks)
    if chunks.count < HELD_OUT_EVERY:
        raise InputError(
            f"{chunks.count} chunks of {calibration.n_ctx_seq} tokens are too few for second moments, of which one in "
            f"{HELD_OUT_EVERY} is held out; give more text, or a smaller --ctx"
        )
    for _ in evaluate_group(runtime, chunks, range(1), slice(None)):
        pass
    header = MomentsHeader(collector.shapes(), (calibration.text.name,), calibration.n_ctx_seq)
    return MomentsRun(runtime, collector, chunks, header)
