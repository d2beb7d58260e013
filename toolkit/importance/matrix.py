"""Read an importance matrix, as means or as the sums they are made of.

For every column of a weight matrix it has the mean square of what that column is multiplied with.

Two formats are told apart by their first bytes, never by the suffix: GGUF, and the older one without magic. The values
are those that llama-quantize would hand to the quantizer (`load_imatrix` in tools/quantize/quantize.cpp and
common/imatrix-loader.cpp of llama.cpp, commit 0c1e570).
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy
from numpy.typing import NDArray

from toolkit.errors import ImatrixError
from toolkit.gguf.format import MAGIC, Metadata
from toolkit.gguf.ggml_types import F32
from toolkit.gguf.reader import read_gguf
from toolkit.gguf.rows import StoredRows
from toolkit.importance.sums import COUNTS, SUMS, ImatrixSums, TensorSums, experts_of, filled, missing
from toolkit.quant_profile.protected import may_be_quantized

Floats = NDArray[numpy.float32]

DEFAULT_CHUNK_SIZE = 512
_KEYS = ("imatrix.datasets", "imatrix.chunk_count", "imatrix.chunk_size")
_MAX_NAME_BYTES = 1 << 10
_NAMES_SHOWN = 3


@dataclass(frozen=True)
class Imatrix:
    """How much each column of each tensor matters."""

    path: Path
    entries: Mapping[str, Floats] = field(repr=False)
    """float32 [matrices * row length] by tensor name; an expert tensor has one matrix an expert"""
    chunks: int
    datasets: tuple[str, ...] = ()
    unseen: Mapping[str, int] = field(default_factory=dict)
    """how many matrices of a tensor saw no token, where the file counts them; their values are 1 already"""

    def importance(self, name: str, shape: tuple[int, ...]) -> Floats | None:
        """Return float32 [matrices * row length] of a tensor, 1 for matrices of which nothing is known; None without an entry.

        Raises ImatrixError if the tensor has another size than the matrix says.
        """
        return self._filled(name, shape)[0] if name in self.entries else None

    def missing(self, name: str, shape: tuple[int, ...]) -> int:
        """Return of how many matrices of a tensor nothing is known.

        Raises ImatrixError as `importance` does.
        """
        return self._filled(name, shape)[1] + self.unseen.get(name, 0)

    def _filled(self, name: str, shape: tuple[int, ...]) -> tuple[Floats, int]:
        values, needed = self.entries[name], _importance_length(shape)
        if len(values) != needed:
            raise ImatrixError(
                f"{self.path}: {name} has {len(values)} values, but the tensor needs {needed}; "
                "the importance matrix belongs to another model"
            )
        return filled(values, needed // shape[-1])


def read_imatrix(path: Path) -> Imatrix:
    """Return the importance matrix in a file of either format.

    Raises ImatrixError if the file cannot be read, is damaged, or is not an importance matrix; GgufError if a GGUF file is
    damaged.
    """
    return _read_gguf(path) if is_gguf(path) else _read_legacy(path)


def read_sums(path: Path) -> ImatrixSums:
    """Return the sums and counts in a file of either format, which can be added to others.

    The older format has no counts of tokens; its chunks are assumed to have DEFAULT_CHUNK_SIZE. A matrix with NaN in it
    counts as one that saw no token; in the older format one of zeros does.

    Raises what `read_imatrix` raises.
    """
    read_imatrix(path)
    return _gguf_sums(path) if is_gguf(path) else _legacy_sums(path)


def is_gguf(path: Path) -> bool:
    """Tell a file of GGUF format by its first bytes.

    Raises ImatrixError if it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError as error:
        raise ImatrixError(f"{path}: the importance matrix cannot be read ({error.strerror})") from error


def _gguf_sums(path: Path) -> ImatrixSums:
    file = read_gguf(path)
    entries = {}
    for name in (name.removesuffix(SUMS) for name in file.tensors if name.endswith(SUMS)):
        counts = numpy.rint(_floats(path, name, file.tensors[name + COUNTS])).astype(numpy.int64)
        sums = _floats(path, name, file.tensors[name + SUMS]).reshape(len(counts), -1)
        bad = numpy.asarray(~numpy.isfinite(sums).all(axis=1))
        entries[name] = TensorSums(numpy.where(bad[:, None], numpy.float32(0), sums), numpy.where(bad, 0, counts))
    chunk_size = file.metadata["imatrix.chunk_size"].value
    if not isinstance(chunk_size, int) or chunk_size < 1:
        raise ImatrixError(f"{path}: imatrix.chunk_size is {chunk_size!r}, expected a number")
    return ImatrixSums(entries, chunk_size, _datasets(file.metadata))


def _legacy_sums(path: Path) -> ImatrixSums:
    stored: dict[str, tuple[int, Floats]] = {}
    with path.open("rb") as file:
        reader = _LegacyReader(path, file, path.stat().st_size)
        for _ in range(reader.count("entries", smallest=1)):
            name = reader.text()
            stored[name] = reader.sums(name)
    sizes = {name: len(values) for name, (_, values) in stored.items()}
    entries = {
        name: _counted(values.reshape(experts_of(name, sizes), -1), calls) for name, (calls, values) in stored.items()
    }
    return ImatrixSums(entries, DEFAULT_CHUNK_SIZE, read_imatrix(path).datasets)


def _counted(stored: Floats, calls: int) -> TensorSums:
    """Return the sums of tokens for what the older format sums of calls."""
    absent = missing(stored)
    sums = numpy.where(absent[:, None], numpy.float32(0), stored) * numpy.float32(DEFAULT_CHUNK_SIZE)
    return TensorSums(sums, numpy.where(absent, 0, max(1, calls) * DEFAULT_CHUNK_SIZE).astype(numpy.int64))


def check_against(imatrix: Imatrix, tensors: Sequence[tuple[str, tuple[int, ...]]]) -> list[str]:
    """Return what a user should know about an importance matrix for these tensors: names unknown or missing, experts unseen.

    Raises ImatrixError if a tensor has another size than the matrix says, or none is in the matrix.
    """
    shapes = dict(tensors)
    counts = {name: imatrix.missing(name, shapes[name]) for name in imatrix.entries if name in shapes}
    unknown = [name for name in imatrix.entries if name not in shapes]
    if len(unknown) == len(imatrix.entries):
        raise ImatrixError(f"{imatrix.path}: it has no tensor of this model; it belongs to another model")
    lacking = [name for name, shape in tensors if _wants_importance(name, shape) and name not in imatrix.entries]
    return [
        *_about(unknown, "in the importance matrix but not in the model"),
        *_about(lacking, "without importance"),
        *_about_missing({name: count for name, count in counts.items() if count}),
    ]


def _about_missing(counts: Mapping[str, int]) -> list[str]:
    if not counts:
        return []
    first = next(iter(counts))
    return [
        f"of {sum(counts.values())} matrices in {len(counts)} tensors ({first}: {counts[first]}) the importance matrix has no "
        "values, or none that are numbers: all their weights count alike"
    ]


def _about(names: Sequence[str], problem: str) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return [f"{len(names)} tensor{'s' if len(names) > 1 else ''} {problem}: {', '.join(names[:_NAMES_SHOWN])}{more}"]


def _wants_importance(name: str, shape: tuple[int, ...]) -> bool:
    """Tell whether importance is to be expected; embeddings and output are often left out."""
    return name.startswith("blk.") and may_be_quantized(name, shape, "")


def _importance_length(shape: tuple[int, ...]) -> int:
    return shape[-1] * (shape[-3] if len(shape) > 2 else 1)


def _read_gguf(path: Path) -> Imatrix:
    file = read_gguf(path)
    names = [name.removesuffix(SUMS) for name in file.tensors if name.endswith(SUMS)]
    if not names:
        raise ImatrixError(f"{path}: a GGUF file without {SUMS} tensors, so it is not an importance matrix")
    absent = [key for key in _KEYS if key not in file.metadata]
    if absent:
        raise ImatrixError(f"{path}: the importance matrix lacks {absent[0]}; compute it again")
    means = {name: _mean_squares(path, name, file.tensors) for name in names}
    entries = {name: values for name, (values, _) in means.items()}
    unseen = {name: count for name, (_, count) in means.items() if count}
    return Imatrix(path, entries, _chunk_count(path, file.metadata), _datasets(file.metadata), unseen)


def _mean_squares(path: Path, name: str, tensors: Mapping[str, StoredRows]) -> tuple[Floats, int]:
    """Return sums divided by counts, for each expert, and how many saw no token: their values are 1."""
    counts_of = tensors.get(name + COUNTS)
    if counts_of is None:
        raise ImatrixError(f"{path}: {name} has sums but no counts; the importance matrix is damaged")
    sums, counts = _floats(path, name, tensors[name + SUMS]), _floats(path, name, counts_of)
    if not counts.size or len(sums) % len(counts):
        raise ImatrixError(f"{path}: {name} has {len(sums)} sums for {len(counts)} counts; the file is damaged")
    if not numpy.isfinite(counts).all():
        raise ImatrixError(f"{path}: the counts of {name} hold NaN or infinity; compute the matrix again")
    whole = numpy.floor(counts.astype(numpy.float64) + 0.5).astype(numpy.float32).reshape(-1, 1)
    means = sums.reshape(len(counts), -1) / numpy.where(whole > 0, whole, numpy.float32(1))
    return numpy.where(whole > 0, means, numpy.float32(1)).reshape(-1), int((whole <= 0).sum())


def _floats(path: Path, name: str, rows: StoredRows) -> Floats:
    if rows.type is not F32:
        raise ImatrixError(f"{path}: {name} is stored as {rows.type.name}, expected F32")
    return rows.data.view("<f4").astype(numpy.float32)


def _chunk_count(path: Path, metadata: Metadata) -> int:
    count = metadata["imatrix.chunk_count"].value
    if not isinstance(count, int):
        raise ImatrixError(f"{path}: imatrix.chunk_count is {count!r}, expected a number")
    return count


def _datasets(metadata: Metadata) -> tuple[str, ...]:
    value = metadata["imatrix.datasets"].value
    return tuple(str(name) for name in value) if isinstance(value, tuple) else ()


def _read_legacy(path: Path) -> Imatrix:
    entries: dict[str, Floats] = {}
    with path.open("rb") as file:
        reader = _LegacyReader(path, file, path.stat().st_size)
        n_entries = reader.count("entries", smallest=1)
        for _ in range(n_entries):
            name = reader.text()
            entries[name] = reader.mean_squares(name)
        chunks = reader.count("chunks") if reader.left else 0
        datasets = (reader.text(),) if reader.left else ()
    return Imatrix(path, entries, chunks, tuple(filter(None, datasets)))


class _LegacyReader:
    """Reads the format without magic, never beyond the file's end."""

    def __init__(self, path: Path, file: BinaryIO, left: int) -> None:
        self._path = path
        self._file = file
        self.left = left
        """bytes not read yet"""

    def count(self, what: str, smallest: int = 0) -> int:
        """Return an int32 that counts something in the file."""
        value: int = struct.unpack("<i", self._take(4, what))[0]
        if value < smallest:
            raise self._error(f"the number of {what} is {value}")
        return value

    def text(self) -> str:
        """Return a name with its length before it."""
        length = self.count("characters of a name")
        if length > _MAX_NAME_BYTES:
            raise self._error(f"a name of {length} bytes")
        stored = self._take(length, "a name").split(b"\0")[0]
        try:
            return stored.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self._error("a name that is not UTF-8") from error

    def sums(self, name: str) -> tuple[int, Floats]:
        """Return the number of calls of an entry, and its stored sums."""
        calls: int = struct.unpack("<i", self._take(4, f"calls of {name}"))[0]
        n_values = self.count(f"values of {name}", smallest=1)
        return calls, numpy.frombuffer(self._take(4 * n_values, f"values of {name}"), "<f4").astype(numpy.float32)

    def mean_squares(self, name: str) -> Floats:
        """Return the values of an entry: stored sums divided by the number of calls."""
        calls, stored = self.sums(name)
        return stored / numpy.float32(calls) if calls > 0 else stored

    def _take(self, n_bytes: int, what: str) -> bytes:
        if n_bytes > self.left:
            raise self._error(f"it ends within {what}: {n_bytes} bytes expected, {self.left} left")
        self.left -= n_bytes
        return self._file.read(n_bytes)

    def _error(self, message: str) -> ImatrixError:
        return ImatrixError(f"{self._path}: neither GGUF nor a legacy importance matrix, or damaged: {message}")
