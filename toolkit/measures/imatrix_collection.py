"""Collect an importance matrix while a model reads a text.

ggml calls back before and after every multiplication of a weight; for each column of the weight, the squares of what it
is multiplied with are added up in 32 bits, token after token, as llama-imatrix does.
Source: `collect_imatrix()` in tools/imatrix/imatrix.cpp of llama.cpp (commit 0c1e570).
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy
from numpy.typing import NDArray

from toolkit.errors import EnvironmentFaultError, QualityError
from toolkit.gguf.format import OUTPUT
from toolkit.gguf.ggml_types import F32
from toolkit.importance.sums import ImatrixSums, TensorSums
from toolkit.llama.ggml_tensor import GgmlTensor, operation_number, read_values, tensor_at
from toolkit.llama.run_settings import RunSettings
from toolkit.llama.runtime import LlamaRuntime
from toolkit.measures.chunks import cut_chunks, evaluate_group
from toolkit.measures.evaluation_text import EvaluationText, tokens_of
from toolkit.reporter import SILENT_TASK, Task

Floats = NDArray[numpy.float32]
_SMALLEST_BATCH = 16
_ROWS_AT_ONCE = 64


class ImatrixCollector:
    """Adds up squares for every weight that a graph multiplies with; ggml calls it for every node.

    From the second batch on, it ends a batch at the last weight that the first one had: what would follow is the product
    with the vocabulary's matrix, which nobody reads here.
    """

    def __init__(self, *, process_output: bool = False) -> None:
        self._process_output = process_output
        self._multiply, self._multiply_experts = operation_number("MUL_MAT"), operation_number("MUL_MAT_ID")
        self._entries: dict[str, TensorSums] = {}
        self._seen: list[str] = []
        self._seen_in_first = 0
        self._seen_at: dict[tuple[int, int], list[str]] = {}

    def __call__(self, pointer: int, ask: bool, _user_data: object) -> bool:
        """Answer whether a node is of interest, or take its numbers and answer whether the batch continues."""
        node = tensor_at(pointer)
        if ask:
            return self._wants(node)
        self._seen.append(self._collect(node))
        return len(self._seen) != self._seen_in_first

    def end_batch(self, start: int, n_tokens: int) -> None:
        """Get ready for the next batch, after one of so many tokens from position `start` of its chunks.

        Raises EnvironmentFaultError if it did not reach the weights that the same part of other chunks did: what a text
        adds to some weights only is not importance of the others.
        """
        seen, self._seen = self._seen, []
        self._seen_in_first = self._seen_in_first or len(seen)
        expected = self._seen_at.setdefault((start, n_tokens), seen)
        if seen != expected:
            raise EnvironmentFaultError(
                f"llama.cpp multiplied with {len(seen)} weights in one batch and with {len(expected)} in another of the same "
                "kind, so the sums are not those of the text, and nothing is written; run it again"
            )

    def entries(self) -> dict[str, TensorSums]:
        """Return what was collected so far, by the name of the weight."""
        return dict(self._entries)

    def _wants(self, node: GgmlTensor) -> bool:
        if node.op == self._multiply_experts:
            return True
        if node.op != self._multiply:
            return False
        inputs = tensor_at(node.src[1])
        if inputs.ne[1] < _SMALLEST_BATCH or inputs.type != F32.ggml_id:
            return False
        name = weight_name(tensor_at(node.src[0]).name)
        return name.startswith("blk.") or (self._process_output and name == OUTPUT)

    def _collect(self, node: GgmlTensor) -> str:
        weight = tensor_at(node.src[0])
        name, values = weight_name(weight.name), read_values(node.src[1], numpy.float32)
        if node.op == self._multiply_experts:
            entry = self._entry(name, values.shape[-1], int(weight.ne[2]), int(weight.ne[2]))
            add_expert_rows(entry, values[0], read_values(node.src[2], numpy.int32)[0, 0])
        else:
            matrices = int(weight.ne[2] * weight.ne[3])
            entry = self._entry(name, values.shape[-1], matrices, 1)
            _add_dense(entry, values, int(weight.ne[2]), int(weight.ne[3]))
        if not numpy.isfinite(entry.sums).all():
            raise QualityError(f"{name} was multiplied with NaN or infinite values, so there is no importance matrix")
        return name

    def _entry(self, name: str, row_length: int, matrices: int, counts: int) -> TensorSums:
        if name not in self._entries:
            sums = numpy.zeros((matrices, row_length), numpy.float32)
            self._entries[name] = TensorSums(sums, numpy.zeros(counts, numpy.int64))
        return self._entries[name]


def weight_name(name: bytes) -> str:
    """Return the name of a weight without what a device adds: `CUDA0#blk.0.attn_k.weight#0`."""
    parts = name.decode("utf-8", "replace").split("#")
    return parts[1] if len(parts) > 1 else parts[0]


def _add_dense(entry: TensorSums, values: Floats, matrices: int, outer: int) -> None:
    """Add activations [ne3, ne2, rows, row length], of which weights with fewer matrices see several."""
    for i3, i2 in numpy.ndindex(values.shape[:2]):
        add_squares(entry.sums[(i3 % outer) * matrices + i2 % matrices], values[i3, i2])
    entry.counts[:] += values.size // values.shape[-1] // len(entry.sums)


def add_expert_rows(entry: TensorSums, values: Floats, experts: NDArray[numpy.int32]) -> None:
    """Add activations [tokens, slots or 1, row length] to the experts [tokens, slots] that they were routed to."""
    tokens = len(experts)
    # Slot after slot, and in each token after token: the order of llama-imatrix, which decides the rounding.
    routed = experts.T.reshape(-1)
    order = numpy.argsort(routed, kind="stable")
    seen = numpy.bincount(routed, minlength=len(entry.sums))
    ends = numpy.cumsum(seen)
    for expert in numpy.flatnonzero(seen):
        places = order[ends[expert] - seen[expert] : ends[expert]]
        add_squares(entry.sums[expert], values[places % tokens, places // tokens % values.shape[1]])
    entry.counts[:] += seen


def add_squares(total: Floats, rows: Floats) -> None:
    """Add the squares of rows [n, row length] to a total, one row after the other in 32 bits."""
    block = numpy.empty((_ROWS_AT_ONCE + 1, len(total)), numpy.float32)
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        part = rows[start : start + _ROWS_AT_ONCE]
        block[0] = total
        numpy.multiply(part, part, out=block[1 : len(part) + 1])
        # Along the first axis, numpy adds row after row; along the last it would add in pairs.
        numpy.add.reduce(block[: len(part) + 1], axis=0, out=total)


@dataclass(frozen=True)
class Calibration:
    """The text that is read, and how it is cut into chunks."""

    text: EvaluationText
    n_ctx_seq: int = 512
    max_chunks: int | None = None
    process_output: bool = False
    """collect for output.weight as well"""
    parse_special: bool = False
    """read special tokens written in the text as special tokens"""


def collect_imatrix(
    path: Path, calibration: Calibration, settings: RunSettings, task: Task = SILENT_TASK
) -> ImatrixSums:
    """Return the importance matrix of a model for a text; the task shows the chunks done.

    Raises TextError if the text is too short, QualityError if the model computes NaN, and what loading raises.
    """
    collector = ImatrixCollector(process_output=calibration.process_output)
    with LlamaRuntime(path, replace(settings, on_tensor=collector)) as runtime:
        return collect_with(runtime, collector, calibration, task)


def collect_with(
    runtime: LlamaRuntime, collector: ImatrixCollector, calibration: Calibration, task: Task = SILENT_TASK
) -> ImatrixSums:
    """Return the importance matrix of a loaded model whose `on_tensor` is the collector; the task shows the chunks done."""
    text = calibration.text
    if calibration.parse_special and not text.is_chat:
        tokens = runtime.tokenize(text.text, parse_special=True)
    else:
        tokens = tokens_of(runtime, text)
    chunks = cut_chunks(tokens, calibration.n_ctx_seq, calibration.max_chunks)
    for group in chunks.groups(runtime.n_parallel):
        # All logits are asked for: llama.cpp skips the end of the last layer where they are not.
        for place, start, logits in evaluate_group(runtime, chunks, group, slice(None)):
            if place == 0:
                collector.end_batch(start, len(group) * len(logits))
        task.update(group[-1] + 1, chunks.count)
    return ImatrixSums(collector.entries(), calibration.n_ctx_seq, (calibration.text.name,))
