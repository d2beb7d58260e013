"""Second moments: how the inputs of a weight matrix move together, where an importance matrix has their squares alone.

X^T X / tokens of every distinct input, from two parts of the text: the one that rounding is fitted to, and one held out that
tells how far that can be trusted. A GGUF file of its own, of float32 means, which can be merged by their counts.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy
from numpy.typing import NDArray

from toolkit.errors import ImatrixError
from toolkit.gguf.format import Metadata, ValueType, array, items, string, uint32
from toolkit.gguf.ggml_types import F32, TensorType
from toolkit.gguf.layout import lay_out
from toolkit.gguf.output_file import whole_or_absent
from toolkit.gguf.reader import GgufFile, read_gguf
from toolkit.importance.matrix import Imatrix, is_gguf

Doubles = NDArray[numpy.float64]
KIND = "moments"
FITTED, HELD_OUT, TOKENS = ".moments", ".held_out_moments", ".tokens"
_WEIGHTS, _INPUTS = "moments.weights", "moments.inputs"


@dataclass(frozen=True)
class InputShape:
    """An input of the model: the weights that share it, named after the first, and how long it is."""

    weights: tuple[str, ...]
    row_length: int
    matrices: int = 1
    """more than one for experts, each of which sees tokens of its own"""

    @property
    def name(self) -> str:
        """Return what the input is called."""
        return self.weights[0]

    @property
    def sum_bytes(self) -> int:
        """Return the bytes of its sums in memory, fitted and held out."""
        return 2 * 8 * self.matrices * self.row_length**2


@dataclass(frozen=True)
class InputMoments:
    """What was collected for an input."""

    shape: InputShape
    means: tuple[Doubles, Doubles] = field(repr=False)
    """float64 [matrices, row length, row length], fitted and held out: mean x x^T"""
    tokens: NDArray[numpy.int64] = field(repr=False)
    """int64 [2, matrices]: how many each is the mean of"""

    @property
    def whole(self) -> Doubles:
        """Return float64 [matrices, row length, row length], the mean over both parts of the text."""
        shares = self.tokens / numpy.maximum(self.tokens.sum(0), 1)
        result: Doubles = sum(share[:, None, None] * means for share, means in zip(shares, self.means, strict=True))
        return result


@dataclass(frozen=True)
class MomentsFile:
    """A file of second moments, of which one input at a time is read."""

    file: GgufFile = field(repr=False)
    shapes: Mapping[str, InputShape]
    """by the name of a weight; several weights share one"""
    datasets: tuple[str, ...]
    chunk_size: int

    def of(self, weight: str) -> InputMoments | None:
        """Return the moments of the input of a weight, None if it has none."""
        shape = self.shapes.get(weight)
        return None if shape is None else _read(self.file, shape)

    @cached_property
    def inputs(self) -> tuple[InputShape, ...]:
        """Return every input once."""
        return tuple({shape.name: shape for shape in self.shapes.values()}.values())

    def importance(self) -> Imatrix:
        """Return the importance matrix that the diagonals are."""
        entries = {}
        for shape in self.inputs:
            diagonals = numpy.einsum("mii->mi", _read(self.file, shape).whole)
            for weight in shape.weights:
                entries[weight] = diagonals.astype(numpy.float32).reshape(-1)
        chunks = max(int(self._tokens(shape).sum(0).max()) for shape in self.inputs) // self.chunk_size
        return Imatrix(self.file.path, entries, chunks, self.datasets)

    def _tokens(self, shape: InputShape) -> NDArray[numpy.int64]:
        return _tokens(self.file, shape)


def is_moments(path: Path) -> bool:
    """Tell whether a file holds second moments."""
    if not is_gguf(path):
        return False
    kind = read_gguf(path).metadata.get("general.type")
    return kind is not None and kind.value == KIND


def open_moments(path: Path) -> MomentsFile:
    """Return a file of second moments; reads its header only.

    Raises ImatrixError if it is something else or damaged, GgufError if it is not a GGUF file.
    """
    file = read_gguf(path)
    kind = file.metadata.get("general.type")
    if kind is None or kind.value != KIND:
        raise ImatrixError(f"{path} is not a file of second moments; make one with `imatrix GGUF --moments -o FILE`")
    weights, inputs = (
        tuple(map(str, items(file.metadata, key))) if key in file.metadata else () for key in (_WEIGHTS, _INPUTS)
    )
    size = file.metadata.get("imatrix.chunk_size")
    if not weights or len(weights) != len(inputs) or size is None or not isinstance(size.value, int) or size.value < 1:
        raise ImatrixError(f"{path}: the file of second moments is damaged; make it again")
    grouped: dict[str, list[str]] = {}
    for weight, name in zip(weights, inputs, strict=True):
        grouped.setdefault(name, []).append(weight)
    shapes = [_shape(path, file, name, tuple(members)) for name, members in grouped.items()]
    by_weight = {weight: shape for shape in shapes for weight in shape.weights}
    return MomentsFile(file, by_weight, tuple(map(str, items(file.metadata, "imatrix.datasets"))), size.value)


def _shape(path: Path, file: GgufFile, name: str, weights: tuple[str, ...]) -> InputShape:
    stored = {suffix: file.tensors.get(name + suffix) for suffix in (FITTED, HELD_OUT, TOKENS)}
    absent = next((suffix for suffix, rows in stored.items() if rows is None or rows.type is not F32), None)
    fitted = stored[FITTED]
    if absent is not None or fitted is None or weights[0] != name:
        raise ImatrixError(f"{path}: {name} lacks {absent or FITTED}; the file of second moments is damaged")
    matrices = fitted.shape[0] if len(fitted.shape) > 2 else 1
    shape = InputShape(weights, fitted.shape[-1], matrices)
    squares = [(matrices, shape.row_length, shape.row_length)] * 2
    expected = [*squares, (2, matrices)]
    for (suffix, rows), lengths in zip(stored.items(), expected, strict=True):
        # ggml drops leading lengths of 1.
        if rows is None or tuple(rows.shape) not in (lengths, lengths[1:]) or rows.shape[-1] != lengths[-1]:
            raise ImatrixError(f"{path}: {name}{suffix} has another shape than {list(lengths)}; the file is damaged")
    return shape


def _read(file: GgufFile, shape: InputShape) -> InputMoments:
    square = (shape.matrices, shape.row_length, shape.row_length)
    means = [
        file.tensors[shape.name + suffix].data.view("<f4").reshape(square).astype(numpy.float64)
        for suffix in (FITTED, HELD_OUT)
    ]
    if not all(numpy.isfinite(mean).all() for mean in means):
        raise ImatrixError(f"{file.path}: the moments of {shape.name} hold NaN or infinity; make the file again")
    return InputMoments(shape, (means[0], means[1]), _tokens(file, shape))


def _tokens(file: GgufFile, shape: InputShape) -> NDArray[numpy.int64]:
    stored = file.tensors[shape.name + TOKENS].data.view("<f4").reshape(2, shape.matrices)
    if not numpy.isfinite(stored).all() or (stored < 0).any():
        raise ImatrixError(f"{file.path}: the counts of {shape.name} are damaged; make the file again")
    counts: NDArray[numpy.int64] = numpy.rint(stored).astype(numpy.int64)
    return counts


@dataclass(frozen=True)
class _Placed:
    """A tensor of the file."""

    name: str
    shape: tuple[int, ...]

    @property
    def type(self) -> TensorType:
        return F32


@dataclass(frozen=True)
class MomentsHeader:
    """What is known of a file of second moments before they are collected."""

    inputs: tuple[InputShape, ...]
    datasets: tuple[str, ...]
    chunk_size: int


def write_moments(path: Path, header: MomentsHeader, moments: Iterable[InputMoments], *, force: bool = False) -> None:
    """Write second moments as they come, whole or not at all; memory: those of one input.

    Raises InputError or OutputError if the file cannot be written, ImatrixError if there is nothing to write.
    """
    if not header.inputs:
        raise ImatrixError("no weight was multiplied with, so there are no second moments to write; use a longer text")
    tensors = [placed for shape in header.inputs for placed in _placed(shape)]
    layout = lay_out(_metadata(header), tensors)
    offsets = {tensor.name: offset for tensor, offset in zip(tensors, layout.offsets, strict=True)}
    with whole_or_absent(path, layout.file_bytes, force=force) as work:
        for collected in moments:
            parts = dict(zip((FITTED, HELD_OUT, TOKENS), (*collected.means, collected.tokens), strict=True))
            for suffix, values in parts.items():
                stored = numpy.ascontiguousarray(values, "<f4").reshape(-1).view(numpy.uint8)
                work.write(offsets.pop(collected.shape.name + suffix), stored.data)
        assert not offsets, "moments of every input of the header"
        work.write(0, layout.header)


def _placed(shape: InputShape) -> list[_Placed]:
    square = (shape.matrices, shape.row_length, shape.row_length)[0 if shape.matrices > 1 else 1 :]
    return [_Placed(shape.name + suffix, square) for suffix in (FITTED, HELD_OUT)] + [
        _Placed(shape.name + TOKENS, (2, shape.matrices))
    ]


def _metadata(header: MomentsHeader) -> Metadata:
    pairs = [(weight, shape.name) for shape in header.inputs for weight in shape.weights]
    return {
        "general.type": string(KIND),
        "imatrix.datasets": array(ValueType.STRING, header.datasets),
        "imatrix.chunk_size": uint32(header.chunk_size),
        _WEIGHTS: array(ValueType.STRING, (weight for weight, _ in pairs)),
        _INPUTS: array(ValueType.STRING, (name for _, name in pairs)),
    }


def merge_moments(files: Sequence[MomentsFile], path: Path, *, force: bool = False) -> MomentsHeader:
    """Write the moments of all texts together; return what the file says of them.

    Raises ImatrixError if two files are of different models, and what writing raises.
    """
    first = files[0]
    for other in files[1:]:
        if other.shapes != first.shapes:
            raise ImatrixError(f"{other.file.path} and {first.file.path} hold moments of different models")
    datasets = tuple(name for file in files for name in file.datasets)
    header = MomentsHeader(first.inputs, datasets, first.chunk_size)
    write_moments(path, header, _merged(files), force=force)
    return header


def _merged(files: Sequence[MomentsFile]) -> Iterator[InputMoments]:
    for shape in files[0].inputs:
        parts = [_read(file.file, shape) for file in files]
        tokens = numpy.sum([part.tokens for part in parts], axis=0)
        means = [
            sum(part.means[half] * part.tokens[half][:, None, None] for part in parts)
            / numpy.maximum(tokens[half], 1)[:, None, None]
            for half in range(2)
        ]
        yield InputMoments(shape, (means[0], means[1]), tokens)
