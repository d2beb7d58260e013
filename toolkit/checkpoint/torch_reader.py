"""Read PyTorch's .bin files: a zip archive of one pickle (`data.pkl`) and a stored, not compressed, file for every storage.

The storages are memory-mapped. Tensors may share one, and be views of it with any offset and stride.
"""

import math
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy

from toolkit.checkpoint.pickle_reader import read_state_dict
from toolkit.checkpoint.pickled_names import UNTYPED, View
from toolkit.checkpoint.safetensors_reader import ITEM_BITS
from toolkit.checkpoint.tensor import FLOAT_DTYPES, CheckpointTensor, StoredTensor
from toolkit.errors import CheckpointError, TensorError
from toolkit.gguf.ggml_types import F32, TensorType
from toolkit.gguf.rows import Bytes, RowSource
from toolkit.json_files import refuse_lfs_pointer
from toolkit.machine.mapped_files import map_file

LOCAL_HEADER_BYTES = 30
_ZIP_FAULTS = (
    zipfile.BadZipFile,
    struct.error,
    ValueError,
    OSError,
    NotImplementedError,
    RuntimeError,
    IndexError,
    OverflowError,
)
_ADVICE = (
    "load it with torch.load(…, weights_only=True) where you trust it, and save it as safetensors or with torch.save of "
    "PyTorch 1.6 or later"
)


def read_torch(path: Path) -> dict[str, CheckpointTensor]:
    """Return the tensors of one file, in the order of its state dict; nothing in the file is run.

    Raises CheckpointError if the file is of the old format, damaged, or holds anything but named tensors.
    """
    refuse_lfs_pointer(path)
    archive = _Archive.open(path)
    views = read_state_dict(archive.read("data.pkl"), path.name)
    return {name: _tensor(archive, name, view) for name, view in views.items()}


@dataclass(frozen=True)
class _Archive:
    path: Path
    mapped: Bytes
    entries: dict[str, zipfile.ZipInfo]
    """by name, without the folder that holds them all"""

    @staticmethod
    def open(path: Path) -> "_Archive":
        """Map a zip archive and read its directory."""
        with path.open("rb") as file:
            if file.read(4) != b"PK\x03\x04":
                raise CheckpointError(f"{path.name} is {_kind(path)}, which is not read; {_ADVICE}")
        mapped = numpy.frombuffer(map_file(path), dtype=numpy.uint8)
        try:
            with zipfile.ZipFile(path) as archive:
                infos = archive.infolist()
        except _ZIP_FAULTS as error:
            raise CheckpointError(f"{path.name} is damaged or truncated ({error}): download it again") from error
        result = _Archive(path, mapped, _by_name(path, infos))
        result.check_format()
        return result

    def check_format(self) -> None:
        """Refuse programs, and numbers in the other order of bytes."""
        if "constants.pkl" in self.entries:
            raise CheckpointError(f"{self.path.name} is a TorchScript program, not a state dict; {_ADVICE}")
        if "data.pkl" not in self.entries:
            raise CheckpointError(f"{self.path.name} is a zip archive without data.pkl, so not a PyTorch file")
        if "byteorder" in self.entries and self.read("byteorder") != b"little":
            raise CheckpointError(f"{self.path.name} was written on a big-endian machine, which is not read; {_ADVICE}")

    def read(self, name: str) -> bytes:
        """Return a small file of the archive."""
        return self.view(name).tobytes()

    def view(self, name: str) -> Bytes:
        """Return uint8 [bytes of a file of the archive], a view of the memory map.

        Raises CheckpointError if it is absent, compressed, or not within the archive.
        """
        info = self.entries.get(name)
        if info is None:
            raise CheckpointError(f"{self.path.name} lacks {name[:80]!r}, which its pickle asks for: download it again")
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 or info.file_size != info.compress_size:
            raise CheckpointError(
                f"{self.path.name}: {name[:80]!r} is compressed or encrypted, as torch.save never writes it"
            )
        start = self._data_start(info)
        if start + info.file_size > len(self.mapped):
            raise CheckpointError(
                f"{self.path.name}: {name[:80]!r} ends beyond the file; it is truncated: download it again"
            )
        return self.mapped[start : start + info.file_size]

    def _data_start(self, info: zipfile.ZipInfo) -> int:
        offset = info.header_offset
        header = self.mapped[offset : offset + LOCAL_HEADER_BYTES].tobytes() if offset >= 0 else b""
        if len(header) < LOCAL_HEADER_BYTES or not header.startswith(b"PK\x03\x04"):
            raise CheckpointError(
                f"{self.path.name} is damaged: the zip directory points at no entry; download it again"
            )
        name_bytes, extra_bytes = struct.unpack_from("<HH", header, 26)
        return offset + LOCAL_HEADER_BYTES + int(name_bytes) + int(extra_bytes)


def _kind(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(512)
    if start[257:262] == b"ustar":
        return "a tar archive, the format of PyTorch 0.1"
    if start[:1] == b"\x80":
        return "a bare pickle, the format of PyTorch before 1.6"
    return "not a PyTorch file (it is not a zip archive)"


def _by_name(path: Path, infos: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    entries: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        _folder, _, name = info.filename.partition("/")
        if name in entries:
            raise CheckpointError(f"{path.name}: {name[:80]!r} is in the zip archive twice")
        entries[name] = info
    return entries


def _tensor(archive: _Archive, name: str, view: View) -> CheckpointTensor:
    item = ITEM_BITS[view.dtype] // 8
    stored = archive.view(f"data/{view.storage.key}")
    storage_item = 1 if view.storage.dtype == UNTYPED else item
    available = min(view.storage.count * storage_item, len(stored)) // item
    _refuse_outside(archive.path, name, view, available)
    count = math.prod(view.shape)
    if _contiguous(view):
        data = stored[view.offset * item : (view.offset + count) * item]
        return StoredTensor(name, view.dtype, view.shape, data, archive.path)
    return StridedTensor(name, view, stored, archive.path)


def _refuse_outside(path: Path, name: str, view: View, available: int) -> None:
    count = math.prod(view.shape)
    last = view.offset + sum((length - 1) * stride for length, stride in zip(view.shape, view.stride, strict=True))
    if count and last >= available:
        raise CheckpointError(
            f"{path.name}: {name} {list(view.shape)} reaches number {last:,} of a storage of {available:,}; "
            "the file is damaged: download it again"
        )
    if count > available:
        raise CheckpointError(
            f"{path.name}: {name} {list(view.shape)} repeats the {available:,} numbers of its storage; "
            "save it with .contiguous()"
        )


def _contiguous(view: View) -> bool:
    expected = 1
    for length, stride in zip(reversed(view.shape), reversed(view.stride), strict=True):
        if length != 1 and stride != expected:
            return 0 in view.shape
        expected *= length
    return True


@dataclass(frozen=True)
class StridedTensor:
    """A tensor whose rows do not follow each other: a transposed matrix, some columns of one."""

    name: str
    view: View
    storage: Bytes
    file: Path

    @property
    def dtype(self) -> str:
        """Return the type of its numbers, in the spelling of safetensors."""
        return self.view.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape, row length last."""
        return self.view.shape

    @property
    def n_bytes(self) -> int:
        """Return the bytes of its numbers."""
        return math.prod(self.shape) * ITEM_BITS[self.dtype] // 8

    def rows(self) -> RowSource:
        """Return its rows as floats.

        Raises TensorError if its numbers are not plain weights.
        """
        if self.dtype in FLOAT_DTYPES or self.dtype == "F64":
            return StridedRows(self.shape, FLOAT_DTYPES.get(self.dtype, F32), self.view, self.storage)
        raise TensorError(f"{self.name} is {self.dtype}, which does not hold plain weights")


@dataclass(frozen=True)
class StridedRows:
    """Rows that are gathered from a storage by offset and stride; float64 is delivered as float32."""

    shape: tuple[int, ...]
    type: TensorType
    view: View
    storage: Bytes

    def read_rows(self, start: int, stop: int) -> Bytes:
        """Return uint8 [stop - start, row_bytes]."""
        rows = _gather(self.view, self.storage, start, stop)
        if self.view.dtype != "F64":
            return rows
        with numpy.errstate(over="ignore"):  # an infinity is refused later, by name
            return rows.view("<f8").astype("<f4").view(numpy.uint8)


def _gather(view: View, storage: Bytes, start: int, stop: int) -> Bytes:
    item = ITEM_BITS[view.dtype] // 8
    strides = tuple(stride * item for stride in view.stride)
    numbers = numpy.ndarray(view.shape, f"V{item}", storage.data, view.offset * item, strides)
    if len(view.shape) == 1:
        rows = numbers[None]
    elif len(view.shape) == 2:
        rows = numbers[start:stop]
    else:
        rows = numbers[numpy.unravel_index(numpy.arange(start, stop), view.shape[:-1])]
    return numpy.ascontiguousarray(rows).view(numpy.uint8).reshape(stop - start, -1)
