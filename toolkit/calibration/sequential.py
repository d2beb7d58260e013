"""Calibration in sequence: block after block, every weight is fitted to what the quantized model gives it.

Two models are evaluated side by side, a block at a time: the original, and one whose weights are replaced as soon as they
are rounded. Between blocks, the hidden states of both lie in files, and so do the rounded weights: memory holds one block of
each model and the sums of one input, and a run that was killed goes on with the block that it was at.
"""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy

from toolkit.calibration.block_model import Blocks, block_count, blocks_for, blocks_to_the_end, stored, write_blocks
from toolkit.calibration.block_runtime import BlockRuntime
from toolkit.calibration.paired_moments import PairedSums, sum_bytes
from toolkit.calibration.store import States, Store, Tokens
from toolkit.conversion.tensor_plan import ConversionPlan, TensorPlan
from toolkit.errors import InputError
from toolkit.gguf.format import EMBEDDING, OUTPUT
from toolkit.gguf.layout import lay_out
from toolkit.gguf.rows import Bytes, row_count
from toolkit.importance.moments import InputShape
from toolkit.llama import quantizer
from toolkit.machine.host import physical_cores
from toolkit.machine.load import one_blas_thread
from toolkit.measures.chunks import Chunks
from toolkit.measures.moment_collection import HELD_OUT_EVERY
from toolkit.reporter import SILENT_TASK, Task
from toolkit.rounding.asymmetric import Inputs, choose_damping, round_matrix
from toolkit.rounding.row_rounding import LOOK_UP_DAMPING, can_round

_FORMAT = 1
_SAMPLED = 64
_TOKENS_AT_ONCE = 2048
_LOGITS_BYTES = 256 << 20
"""of a batch, whose number of chunks is limited by it where the blocks have the whole vocabulary"""


@dataclass(frozen=True)
class SequenceSettings:
    """How a sequence is computed; only `memory_bytes` may change what comes out, and nothing but memory depends on it."""

    memory_bytes: int = 2 << 30
    """of sums: experts that do not fit are summed up in several passes over the text"""
    threads: int | None = None


@dataclass(frozen=True)
class _Models:
    """The original and the quantized model, as plans."""

    original: ConversionPlan
    quantized: ConversionPlan

    @property
    def rounded(self) -> dict[str, TensorPlan]:
        """Return the tensors that there is something to choose for."""
        return {
            tensor.name: tensor for tensor in self.quantized.tensors if can_round(tensor.type) and tensor.is_converted
        }


def calibrate_in_sequence(  # noqa: PLR0913, PLR0917  # two models, a text, and how
    original: ConversionPlan,
    quantized: ConversionPlan,
    chunks: Tokens,
    folder: Path,
    settings: SequenceSettings | None = None,
    task: Task = SILENT_TASK,
) -> ConversionPlan:
    """Return the plan `quantized` with the rows of its tensors known: those that were rounded in sequence, in `folder`.

    `chunks` is int32 [chunks, tokens]. What an earlier run of the same arguments left in the folder is used.

    Raises InputError for a model whose blocks cannot be followed, GgufError if llama.cpp refuses it.
    """
    settings = settings or SequenceSettings()
    models = _Models(original, quantized)
    store = Store(folder, _key(models, chunks))
    with ThreadPoolExecutor(settings.threads or physical_cores()) as pool, one_blas_thread():
        _Run(models, chunks, store, settings, pool).all_blocks(task)
    rows = {name: store.rows(tensor) for name, tensor in models.rounded.items()}
    tensors = tuple(stored(each, rows[each.name]) if each.name in rows else each for each in quantized.tensors)
    return replace(quantized, tensors=tensors, layout=lay_out(quantized.metadata, tensors))


def _key(models: _Models, chunks: Tokens) -> str:
    """Return a digest of all that the result depends on."""
    digest = hashlib.sha256(str(_FORMAT).encode())
    for plan in (models.original, models.quantized):
        digest.update(plan.layout.header)
        states = [(str(file.path), file.state.st_size, file.state.st_mtime_ns) for file in plan.files]
        digest.update(repr(states).encode())
    digest.update(repr(chunks.shape).encode())
    digest.update(chunks.tobytes())
    return digest.hexdigest()


class _Run:
    """One run over all blocks."""

    def __init__(  # what is rounded, and with what
        self, models: _Models, chunks: Tokens, store: Store, settings: SequenceSettings, pool: ThreadPoolExecutor
    ) -> None:
        self._models, self._chunks, self._store, self._settings, self._pool = models, chunks, store, settings, pool
        self._rounded = models.rounded
        self._n_blocks = block_count(models.quantized.metadata)
        self._vocabulary, self._n_embd = next(
            tensor.shape for tensor in models.quantized.tensors if tensor.name == EMBEDDING
        )

    def all_blocks(self, task: Task) -> None:
        """Round what every block holds, and the output at the end."""
        if EMBEDDING in self._rounded and not self._store.holds(self._rounded[EMBEDDING]):
            self._tied_embedding()
        for block in range(self._store.block, self._n_blocks):
            self._one_block(block)
            self._store.advance()
            task.update(block + 1, self._n_blocks)

    def _one_block(self, block: int) -> None:
        blocks = blocks_for(self._models.quantized.metadata, block)
        with (
            self._loaded(self._models.original, blocks, "original") as original,
            self._loaded(self._quantized_so_far(), blocks, "quantized") as quantized,
        ):
            read = self._states(blocks)
            for shape in quantized.learn(read("quantized", read.parts[0])):
                if self._is_due(shape, block):
                    self._one_input(shape, original, quantized, read)
            if blocks.first == block and block + 1 < self._n_blocks:
                for which, runtime in (("original", original), ("quantized", quantized)):
                    self._write_states(which, runtime, read, block + 1)

    def _is_due(self, shape: InputShape, block: int) -> bool:
        if shape.name in (EMBEDDING, OUTPUT):
            return shape.name == OUTPUT and block + 1 == self._n_blocks
        return True

    def _one_input(self, shape: InputShape, original: BlockRuntime, quantized: BlockRuntime, read: States) -> None:
        tensors = [self._rounded[name] for name in shape.weights if name in self._rounded]
        if not tensors:
            return
        rows: dict[str, list[Bytes]] = {tensor.name: [] for tensor in tensors}
        for matrices in self._passes(shape):
            sums = PairedSums(matrices, shape.row_length, self._pool)
            for part in read.parts:
                x = original.activations(shape.name, read("original", part))
                z = quantized.activations(shape.name, read("quantized", part))
                sums.add(part, x, z)
            for matrix in matrices:
                for tensor in tensors:
                    rows[tensor.name].append(self._rounded_matrix(tensor, matrix, sums.moments(matrix)))
        for tensor in tensors:
            data = numpy.concatenate(rows[tensor.name]).reshape(-1)
            self._store.save(tensor.name, data)
            if tensor.name != OUTPUT:
                quantized.replace_weight(tensor.name, data)

    def _at_once(self, blocks: Blocks) -> int:
        """Return how many chunks are evaluated at once."""
        most = _TOKENS_AT_ONCE
        if blocks.takes_tokens:
            most = min(most, _LOGITS_BYTES // (4 * self._vocabulary))
        return max(1, most // int(self._chunks.shape[1]))

    def _states(self, blocks: Blocks) -> States:
        return States(self._store, self._chunks, blocks, self._at_once(blocks))

    def _passes(self, shape: InputShape) -> Iterator[Sequence[int]]:
        at_once = max(1, self._settings.memory_bytes // sum_bytes(shape.row_length))
        for start in range(0, shape.matrices, at_once):
            yield range(start, min(start + at_once, shape.matrices))

    def _rounded_matrix(self, tensor: TensorPlan, matrix: int, moments: Sequence[Inputs], least: float = 0.0) -> Bytes:
        fitted, held_out, whole = moments
        first = matrix * tensor.rows_per_matrix
        stored_rows = tensor.source.read_rows(first, first + tensor.rows_per_matrix)
        weights = quantizer.to_float32(stored_rows, tensor.source.type)
        sample = weights[:: max(1, len(weights) // _SAMPLED)][:_SAMPLED]
        choice = choose_damping(sample, tensor.type, fitted, held_out, least)
        return round_matrix(weights, tensor.type, whole, choice.damping, self._pool)

    def _tied_embedding(self) -> None:
        """Round an embedding that is the output as well, before anything else: all blocks get its rows.

        Its moments are those of the original, which is evaluated once to its end for them.
        """
        tensor = self._rounded[EMBEDDING]
        for blocks in blocks_to_the_end(self._models.original.metadata):
            read = self._states(blocks)
            with self._loaded(self._models.original, blocks, "original") as original:
                if blocks.last + 1 < self._n_blocks:
                    self._write_states("original", original, read, blocks.last + 1)
                else:
                    self._store.save(EMBEDDING, self._rounded_embedding(tensor, original, read).reshape(-1))
            self._store.states_path("original", blocks.first).unlink(missing_ok=True)

    def _rounded_embedding(self, tensor: TensorPlan, original: BlockRuntime, read: States) -> Bytes:
        if not any(shape.name == EMBEDDING for shape in original.learn(read("original", read.parts[0]))):
            return self._plain(tensor)
        sums = PairedSums(range(1), tensor.shape[-1], self._pool)
        for part in read.parts:
            x = original.activations(EMBEDDING, read("original", part))
            sums.add(part, x, x)
        moments = [replace(part, shift=None) for part in sums.moments(0)]
        return self._rounded_matrix(tensor, 0, moments, LOOK_UP_DAMPING)

    def _plain(self, tensor: TensorPlan) -> Bytes:
        rows = tensor.source.read_rows(0, row_count(tensor.shape))
        weights = quantizer.to_float32(rows, tensor.source.type)
        return quantizer.from_float32(weights, tensor.type, tensor.importance).reshape(-1)

    def _quantized_so_far(self) -> ConversionPlan:
        """Return the quantized model with what is rounded, and zeros where that is still to come."""
        plan = self._models.quantized
        tensors = tuple(
            stored(each, self._store.rows(each) if self._store.holds(each) else numpy.zeros(each.n_bytes, numpy.uint8))
            if each.name in self._rounded
            else each
            for each in plan.tensors
        )
        return replace(plan, tensors=tensors)

    @contextmanager
    def _loaded(self, plan: ConversionPlan, blocks: Blocks, which: str) -> Iterator[BlockRuntime]:
        path = self._store.folder / f"{which}.gguf"
        write_blocks(plan, blocks, path)
        try:
            chunks = (self._at_once(blocks), self._chunks.shape[1])
            with BlockRuntime(path, blocks, chunks, self._settings.threads) as runtime:
                yield runtime
        finally:
            path.unlink(missing_ok=True)

    def _write_states(self, which: str, runtime: BlockRuntime, read: States, block: int) -> None:
        path = self._store.states_path(which, block)
        work = path.with_name(f"{path.name}.part")
        states = numpy.lib.format.open_memmap(work, "w+", numpy.float32, (*self._chunks.shape, self._n_embd))
        for part in read.parts:
            states[part.start : part.stop] = runtime.output(read(which, part)).reshape(len(part), -1, self._n_embd)
        states.flush()
        del states
        work.replace(path)


def cut_chunks(tokens: Sequence[int], length: int, bos_token: int | None, most: int | None = None) -> Tokens:
    """Return int32 [chunks, length], each beginning with the beginning-of-sequence token if there is one.

    Raises InputError if there are too few to hold one out.
    """
    count = min(len(tokens) // length, most or len(tokens))
    if count < HELD_OUT_EVERY:
        raise InputError(
            f"{len(tokens):,} tokens give {count} chunks of {length}; calibration needs {HELD_OUT_EVERY} at least: give more text"
        )
    chunks = Chunks(tokens, length, count)
    return numpy.array([chunks.input_tokens(index, bos_token) for index in range(count)], numpy.int32)
