"""Log-probabilities of a base model in llama-perplexity's own file format: 16 bits for each token of the vocabulary.

A row is `scale * code + lowest`, where nothing lies more than 16 below the row's largest logit: what is less likely is
raised to that. The file holds a header, the tokens, and the rows of the scored half of every chunk.
Source: `log_softmax()` and `perplexity()` in tools/perplexity/perplexity.cpp of llama.cpp (commit 0c1e570).
"""

import struct
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy
from numpy.typing import NDArray

from toolkit.errors import InputError
from toolkit.gguf.output_file import WorkFile, whole_or_absent
from toolkit.llama.evaluation import Logits, Runtime
from toolkit.machine.mapped_files import WatchedFile, as_mapped, check_unchanged, map_file
from toolkit.measures.chunks import Chunks
from toolkit.measures.perplexity import Perplexity, measure_chunks
from toolkit.measures.softmax import log_sum, row_spans
from toolkit.reporter import SILENT_TASK, Task

MAGIC = b"_logits_"
Floats = NDArray[numpy.float32]
Codes = NDArray[numpy.uint16]

_HEADER = struct.Struct("<8siii")
_RANGE = 16
"""How far below the likeliest token the format reaches, in nats."""
_STEPS = 65535
_HEAD = 4


@dataclass(frozen=True)
class StoredLogits:
    """Rows of log-probabilities as the file holds them."""

    packed: Codes = field(repr=False)
    """uint16 [rows, row_length]: two float32 (scale, lowest), then a code a token"""
    n_vocab: int

    @property
    def scale(self) -> Floats:
        """Return float32 [rows, 1]: what one step of a code is worth, in nats."""
        return self.packed[:, :_HEAD].view(numpy.float32)[:, :1]

    @property
    def lowest(self) -> Floats:
        """Return float32 [rows, 1]: the log-probability of code 0."""
        return self.packed[:, :_HEAD].view(numpy.float32)[:, 1:2]

    @property
    def codes(self) -> Codes:
        """Return uint16 [rows, n_vocab]."""
        return self.packed[:, _HEAD : _HEAD + self.n_vocab]

    def rows(self, span: slice) -> "StoredLogits":
        """Return some of the rows."""
        return StoredLogits(self.packed[span], self.n_vocab)


def row_length(n_vocab: int) -> int:
    """Return how many uint16 a row takes: four for its two floats, and an even number of codes."""
    return 2 * ((n_vocab + 1) // 2) + _HEAD


def store_logits(logits: Logits, pool: Executor | None = None) -> StoredLogits:
    """Return logits float32 [rows, n_vocab] as the file holds them, rounded as llama-perplexity rounds."""
    n_rows, n_vocab = logits.shape
    packed = numpy.zeros((n_rows, row_length(n_vocab)), numpy.uint16)
    spans = row_spans(n_rows, n_vocab)
    parts = [(logits[span], StoredLogits(packed[span], n_vocab)) for span in spans]
    for _ in pool.map(_store_part, parts) if pool is not None else map(_store_part, parts):
        pass
    return StoredLogits(packed, n_vocab)


def _store_part(part: tuple[Logits, StoredLogits]) -> None:
    logits, stored = part
    # The error state belongs to the thread; the caller reports what is not finite.
    with numpy.errstate(all="ignore"):
        top = logits.max(axis=1, keepdims=True)
        bottom = numpy.maximum(logits.min(axis=1, keepdims=True), top - numpy.float32(_RANGE))
        scale = (top - bottom) / numpy.float32(_STEPS)
        lowest = bottom - top - log_sum(logits, top)
        stored.packed[:, :_HEAD].view(numpy.float32)[:] = numpy.hstack([scale, lowest])
        inverse = numpy.where(scale > 0, numpy.float32(1) / scale, numpy.float32(0))
        shifted = logits - bottom
        numpy.multiply(shifted, inverse, out=shifted)
        numpy.rint(shifted, out=shifted)
        numpy.clip(shifted, 0, _STEPS, out=shifted)
        stored.codes[:] = shifted.astype(numpy.uint16)


@dataclass(frozen=True)
class LogitsFile:
    """A file of stored logits; rows are read through a memory map."""

    path: Path
    chunks: Chunks
    n_vocab: int
    data: Codes = field(repr=False)
    """uint16 [chunks, scored rows, row_length]"""
    files: tuple[WatchedFile, ...] = field(default=(), repr=False)

    def rows(self, chunk: int, first: int, count: int) -> StoredLogits:
        """Return `count` rows of a chunk from its row `first` on."""
        check_unchanged(self.files)
        return StoredLogits(self.data[chunk, first : first + count], self.n_vocab)

    def check(self, n_vocab: int, n_ctx_seq: int | None = None, tokens: Sequence[int] | None = None) -> None:
        """Refuse a file that does not belong to this model, length of chunks or text.

        Raises InputError that names the field that differs.
        """
        if n_vocab != self.n_vocab:
            raise self._differs("vocabulary", f"{self.n_vocab:,} tokens", f"the model's has {n_vocab:,}")
        if n_ctx_seq is not None and n_ctx_seq != self.chunks.n_ctx_seq:
            raise self._differs("n_ctx", f"{self.chunks.n_ctx_seq:,}", f"--ctx is {n_ctx_seq:,}")
        if tokens is None:
            return
        stored = numpy.asarray(self.chunks.tokens)
        own = numpy.asarray(tokens[: len(stored)], stored.dtype)
        if len(own) < len(stored):
            raise self._differs("text", f"{len(stored):,} tokens", f"the text has only {len(own):,}")
        different = numpy.flatnonzero(stored != own)
        if len(different):
            at = int(different[0])
            raise self._differs(f"token {at:,}", str(stored[at]), f"the text's is {own[at]}")

    def _differs(self, what: str, stored: str, other: str) -> InputError:
        return InputError(
            f"{self.path}: its {what} is {stored}, but {other}; measure the base again, or leave it as it was"
        )


def read_logits(path: Path) -> LogitsFile:
    """Open a file of stored logits.

    Raises InputError if it cannot be read, is not such a file, or does not have the length that its header says.
    """
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER.size)
        n_bytes = path.stat().st_size
    except OSError as error:
        raise InputError(f"{path}: the logits file cannot be read ({error.strerror})") from error
    if len(header) < _HEADER.size or not header.startswith(MAGIC):
        raise InputError(f"{path} is not a logits file; make one with `perplexity --save-logits` or llama-perplexity")
    _, n_ctx, n_vocab, n_chunks = _HEADER.unpack(header)
    if min(n_ctx, n_vocab, n_chunks) < 1:
        raise InputError(f"{path}: a damaged header: n_ctx {n_ctx}, vocabulary {n_vocab}, chunks {n_chunks}")
    expected = _file_bytes(n_ctx, n_vocab, n_chunks)
    if n_bytes != expected:
        raise InputError(
            f"{path}: {n_bytes:,} bytes, but {n_chunks:,} chunks of {n_ctx:,} tokens with a vocabulary of {n_vocab:,} "
            f"take {expected:,}; it was cut off or is of another version"
        )
    return _mapped(path, n_ctx, n_vocab, n_chunks)


def _mapped(path: Path, n_ctx: int, n_vocab: int, n_chunks: int) -> LogitsFile:
    data: NDArray[Any] = numpy.frombuffer(map_file(path), numpy.uint8)
    start = _HEADER.size + 4 * n_ctx * n_chunks
    tokens = data[_HEADER.size : start].view("<i4")
    rows = data[start:].view("<u2").reshape(n_chunks, _scored(n_ctx), row_length(n_vocab))
    return LogitsFile(path, Chunks(tokens.tolist(), n_ctx, n_chunks), n_vocab, rows, as_mapped([path]))


def _scored(n_ctx: int) -> int:
    return n_ctx - 1 - n_ctx // 2


def logits_bytes(chunks: Chunks, n_vocab: int) -> int:
    """Return the size of a file of these chunks."""
    return _file_bytes(chunks.n_ctx_seq, n_vocab, chunks.count)


def _file_bytes(n_ctx: int, n_vocab: int, n_chunks: int) -> int:
    return _HEADER.size + 4 * n_ctx * n_chunks + 2 * row_length(n_vocab) * _scored(n_ctx) * n_chunks


class LogitsWriter:
    """Writes the rows of all chunks, each at its place."""

    def __init__(self, work: WorkFile, chunks: Chunks, n_vocab: int) -> None:
        self._work = work
        tokens = numpy.asarray(chunks.tokens[: chunks.n_ctx_seq * chunks.count], "<i4")
        self._header = _HEADER.pack(MAGIC, chunks.n_ctx_seq, n_vocab, chunks.count) + tokens.tobytes()
        self._row_bytes = 2 * row_length(n_vocab)
        self._scored = _scored(chunks.n_ctx_seq)

    def write(self, chunk: int, row: int, rows: StoredLogits) -> None:
        """Write rows of a chunk from its row `row` on."""
        offset = len(self._header) + (chunk * self._scored + row) * self._row_bytes
        self._work.write(offset, numpy.ascontiguousarray(rows.packed).reshape(-1).view(numpy.uint8).data)

    def finish(self) -> None:
        """Write the header, after which the file is whole."""
        self._work.write(0, self._header)


@contextmanager
def logits_writer(path: Path, chunks: Chunks, n_vocab: int, *, force: bool = False) -> Iterator[LogitsWriter]:
    """Give a writer; the file gets its name when the block ends without an exception, else it is removed.

    Raises InputError or OutputError if it cannot be written.
    """
    with whole_or_absent(path, _file_bytes(chunks.n_ctx_seq, n_vocab, chunks.count), force=force) as work:
        writer = LogitsWriter(work, chunks, n_vocab)
        yield writer
        writer.finish()


@dataclass(frozen=True)
class SaveAs:
    """Where logits are saved."""

    path: Path
    force: bool = False


def measure_and_save(runtime: Runtime, chunks: Chunks, save: SaveAs, task: Task = SILENT_TASK) -> Perplexity:
    """Return the perplexity of a model, and save its logits in a file.

    Raises what `measure_chunks` and `logits_writer` raise; then no file is left.
    """
    with logits_writer(save.path, chunks, runtime.n_vocab, force=save.force) as writer:

        def write(chunk: int, row: int, logits: Logits) -> None:
            writer.write(chunk, row, store_logits(logits))

        return measure_chunks(runtime, chunks, task, write)
