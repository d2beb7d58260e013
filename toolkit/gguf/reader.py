"""Read a GGUF file, or the set of files that a model was split into, so that native code never sees a damaged one.

Tensors are views of a memory map: nothing of their data is read. By hand, because the gguf package trusts the counts and
lengths in a file, makes an object of every token of a vocabulary, and raises Python's own errors for damaged files.
"""

import mmap
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy

from toolkit.errors import GgufError
from toolkit.gguf.format import MAGIC, Metadata, aligned
from toolkit.gguf.header import TensorInfo, read_header
from toolkit.gguf.layout import ShapedTensor
from toolkit.gguf.rows import StoredRows
from toolkit.gguf.shard_names import shard_name, shard_path
from toolkit.machine.mapped_files import map_file
from toolkit.units import format_count, format_size

_CONVERT = "give the checkpoint's directory to convert"
_OLD_GGML = "a GGML file from before GGUF: convert the original checkpoint again"
_OTHER_FORMATS = (
    (b"PK\x03\x04", f"a zip archive, such as torch.save writes: {_CONVERT}"),
    (b"\x80\x02", f"a Python pickle: {_CONVERT}"),
    (b"\x1f\x8b", "a gzip archive: unpack it first"),
    (b"tjgg", _OLD_GGML),
    (b"fmgg", _OLD_GGML),
    (b"lmgg", _OLD_GGML),
    (b"<", "a web page: download the file itself"),
    (b"\0\0\0\0", "zeros: the download did not finish"),
)
_LFS_POINTER = re.compile(rb"version https://git-lfs[^\n]*\n(?:.*\n)*?size (\d{1,19})")
_SPLIT_KEYS = ("split.no", "split.count", "split.tensors.count")


@dataclass(frozen=True)
class GgufFile:
    """What a GGUF file holds, or all the files of a split model together."""

    paths: tuple[Path, ...]
    """the file, or every member of the set in order"""
    version: int
    alignment: int
    metadata: Metadata
    """of the first member, without the keys that describe the split"""
    split_metadata: Metadata
    """those keys; empty for a whole file"""
    tensors: dict[str, StoredRows]
    """by name, in file order"""
    tensor_offsets: dict[str, int]
    """where each tensor's bytes begin, counted from the start of the file that holds it"""
    data_offset: int
    """where tensor data begins in the first member"""
    file_bytes: int
    """of all members"""

    @property
    def path(self) -> Path:
        """Return the file, or the first member of the set."""
        return self.paths[0]

    @property
    def shaped_tensors(self) -> tuple[ShapedTensor, ...]:
        """Return the tensors without their data."""
        return tuple(ShapedTensor(name, rows.shape, rows.type) for name, rows in self.tensors.items())


def read_gguf(path: Path) -> GgufFile:
    """Read a GGUF file, the whole set that a split file belongs to, or the only model of a directory.

    Raises GgufError if a file is missing, damaged, or not a GGUF file that llama.cpp could read.
    """
    member = _read_member(_only_model(path) if path.is_dir() else path)
    if "split.count" not in member.split_metadata:
        return member
    count = _split_integer(member, "split.count")
    return _read_set(member, count) if count > 1 else member


def file_to_load(path: Path) -> Path:
    """Return the file that llama.cpp takes for a model: the first of a split set, the only model of a directory.

    Raises GgufError if a directory has none, or more than one.
    """
    file = _only_model(path) if path.is_dir() else path
    part = shard_name(file)
    if part is None:
        return file
    first = shard_path(file, 1, part.count)
    return first if first.is_file() else file


def files_to_load(path: Path) -> tuple[Path, ...]:
    """Return the file that llama.cpp takes for a model, and after it the others of its set that are there.

    Raises GgufError if a directory has none, or more than one.
    """
    first = file_to_load(path)
    part = shard_name(first)
    others = [] if part is None else [shard_path(first, number, part.count) for number in range(2, part.count + 1)]
    return (first, *(other for other in others if other.is_file()))


def _read_member(path: Path) -> GgufFile:
    view = _map(path)
    if view[: len(MAGIC)] != MAGIC:
        raise GgufError(f"{path}: not a GGUF file but {_describe(view[:512], len(view))}")
    header = read_header(path, view)
    start = aligned(header.n_bytes, header.alignment)
    end = _check_places(path, header.tensors, header.alignment, len(view) - start)
    _check_not_joined(path, view, start + end if header.tensors else header.n_bytes, header.alignment)
    data = numpy.frombuffer(view, numpy.uint8)
    return GgufFile(
        paths=(path,),
        version=header.version,
        alignment=header.alignment,
        metadata={key: value for key, value in header.metadata.items() if key not in _SPLIT_KEYS},
        split_metadata={key: value for key, value in header.metadata.items() if key in _SPLIT_KEYS},
        tensors={info.name: _rows(data[start:], info) for info in header.tensors},
        tensor_offsets={info.name: start + info.offset for info in header.tensors},
        data_offset=start,
        file_bytes=len(view),
    )


def _rows(data: numpy.typing.NDArray[numpy.uint8], info: TensorInfo) -> StoredRows:
    return StoredRows(info.shape, info.type, data[info.offset : info.end])


def _map(path: Path) -> mmap.mmap:
    try:
        if not path.exists():
            raise GgufError(f"{path}: no such file")
        # A pipe would block, and neither it nor a device can be mapped.
        if not path.is_file():
            raise GgufError(f"{path}: not a regular file; a GGUF file can only be read from disk")
        if path.stat().st_size == 0:
            raise GgufError(f"{path}: not a GGUF file but empty: the download or conversion did not finish")
        return map_file(path)
    except (OSError, ValueError) as error:
        raise GgufError(f"{path}: cannot be read: {error}") from error


def _describe(head: bytes, file_bytes: int) -> str:
    """Return what a file seems to be that does not begin as GGUF does."""
    pointer = _LFS_POINTER.match(head)
    if pointer:
        return f"a git-lfs pointer to {format_size(int(pointer[1]))}: run `git lfs pull` in its folder"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < file_bytes:
        return f"safetensors: {_CONVERT}"
    for magic, description in _OTHER_FORMATS:
        if head.startswith(magic):
            return description
    return f"something that begins with {head[:4]!r} instead of {MAGIC!r}"


def _check_places(path: Path, tensors: Sequence[TensorInfo], alignment: int, data_bytes: int) -> int:
    """Return where the last tensor ends, from the start of tensor data; none may overlap or leave the file."""
    end, before = 0, ""
    for tensor in sorted(tensors, key=lambda tensor: tensor.offset):
        offset, name = format_count(tensor.offset), repr(tensor.name)
        if tensor.offset % alignment:
            raise GgufError(f"{path}: tensor {name} has offset {offset}, not a multiple of {alignment}: damaged")
        if tensor.offset < end:
            raise GgufError(f"{path}: the data of tensors {before} and {name} overlap at offset {offset}: damaged")
        end, before = tensor.end, name
        if end > data_bytes:
            beyond = f"the data of tensor {name} ends {format_count(end - data_bytes)} bytes beyond the file"
            raise GgufError(f"{path}: {beyond}: cut off or damaged; download or convert it again")
    return end


def _check_not_joined(path: Path, view: mmap.mmap, end: int, alignment: int) -> None:
    """Refuse split files put one after the other: everything after the first would silently be lost."""
    for start in (end, aligned(end, alignment)):
        if view[start : start + len(MAGIC)] == MAGIC:
            raise GgufError(
                f"{path}: another GGUF file begins at byte {format_count(start)}: parts of a split model joined with cat; "
                "take the parts themselves, or join them with gguf-toolkit merge"
            )


def _only_model(directory: Path) -> Path:
    """Return the only GGUF file of a directory, or the first member of its only set."""
    models: dict[str, Path] = {}
    for path in sorted(directory.glob("*.gguf")):
        part = shard_name(path)
        models.setdefault(f"{part.stem} of {part.count}" if part else path.name, path)
    if len(models) == 1:
        return next(iter(models.values()))
    if not models:
        raise GgufError(f"{directory}: no GGUF file in this directory")
    names = ", ".join(path.name for path in models.values())
    raise GgufError(f"{directory}: more than one model ({names}); name the file")


def _read_set(member: GgufFile, count: int) -> GgufFile:
    """Return the union of the `count` files that `member` is one of."""
    paths = _member_paths(member.path, _split_integer(member, "split.no") + 1, count)
    members = [member if path == member.path else _read_member(path) for path in paths]
    for number, other in enumerate(members, 1):
        stored = _split_integer(other, "split.no") + 1, _split_integer(other, "split.count")
        if stored != (number, count):
            raise GgufError(f"{other.path}: holds part {stored[0]} of {stored[1]}, not what its name says: renamed?")
    _check_tensor_count(members)
    return GgufFile(
        paths=tuple(paths),
        version=members[0].version,
        alignment=members[0].alignment,
        metadata=members[0].metadata,
        split_metadata=members[0].split_metadata,
        tensors={name: rows for other in members for name, rows in other.tensors.items()},
        tensor_offsets={name: offset for other in members for name, offset in other.tensor_offsets.items()},
        data_offset=members[0].data_offset,
        file_bytes=sum(other.file_bytes for other in members),
    )


def _split_integer(member: GgufFile, key: str) -> int:
    entry = member.split_metadata.get(key)
    if entry is None:
        raise GgufError(f"{member.path}: a part of a split model without {key}: damaged")
    if isinstance(entry.value, bool) or not isinstance(entry.value, int):
        raise GgufError(f"{member.path}: {key} is {entry.type.name}, not an integer: damaged")
    return entry.value


def _member_paths(path: Path, number: int, count: int) -> list[Path]:
    """Return the paths of a set of `count` files, of which `path` is the one with that number, counted from 1."""
    part = shard_name(path)
    if part is None or (part.number, part.count) != (number, count):
        raise GgufError(
            f"{path}: holds part {number} of {count}, so its name must end in -{number:05d}-of-{count:05d}.gguf; "
            "rename it"
        )
    paths = [shard_path(path, index, count) for index in range(1, count + 1)]
    missing = [other.name for other in paths if not other.is_file()]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise GgufError(f"{path}: all {count} parts are needed; missing beside it: {', '.join(missing[:3])}{more}")
    return paths


def _check_tensor_count(members: Sequence[GgufFile]) -> None:
    """Compare the tensors that the members hold with their number in the first member."""
    names = [name for member in members for name in member.tensors]
    if len(names) != len(set(names)):
        twice = Counter(names).most_common(1)[0][0]
        raise GgufError(f"{members[0].path}: tensor {twice!r} is in more than one of the {len(members)} parts")
    total = _split_integer(members[0], "split.tensors.count")
    if len(names) != total:
        parts = f"its {len(members)} parts hold {len(names)}"
        raise GgufError(
            f"{members[0].path}: split.tensors.count says {total} tensors, {parts}: parts of another model?"
        )
