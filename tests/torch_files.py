"""Write PyTorch's .bin files without PyTorch: the pickle opcode by opcode, the storages as entries of a zip archive."""

import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy

STORAGES = {
    "F64": "DoubleStorage", "F32": "FloatStorage", "F16": "HalfStorage", "BF16": "BFloat16Storage",
    "I64": "LongStorage", "I32": "IntStorage", "I8": "CharStorage", "U8": "ByteStorage",
}  # fmt: skip


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    """An integer as LONG1."""
    data = value.to_bytes((value.bit_length() + 8) // 8, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def numbers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def name(module: str, own: str) -> bytes:
    return f"c{module}\n{own}\n".encode()


def storage(dtype: str, key: str, count: int) -> bytes:
    parts = text("storage") + name("torch", STORAGES[dtype]) + text(key) + text("cpu") + number(count)
    return b"(" + parts + b"tQ"


def tensor(stored: bytes, shape: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> bytes:
    hooks = name("collections", "OrderedDict") + b")R"
    arguments = stored + number(offset) + numbers(shape) + numbers(stride) + b"\x89" + hooks
    return name("torch._utils", "_rebuild_tensor_v2") + b"(" + arguments + b"tR"


def state_dict(tensors: Mapping[str, bytes]) -> bytes:
    items = b"".join(text(key) + value for key, value in tensors.items())
    return b"\x80\x02}(" + items + b"u."


def write_archive(path: Path, data_pickle: bytes, storages: Mapping[str, bytes] | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", data_pickle)
        archive.writestr("archive/byteorder", "little")
        for key, data in (storages or {}).items():
            archive.writestr(f"archive/data/{key}", data)
        archive.writestr("archive/version", "3\n")
    return path


def strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(numpy.prod(shape[axis + 1 :])) for axis in range(len(shape)))


def write_torch(path: Path, tensors: Mapping[str, tuple[str, numpy.ndarray]]) -> Path:
    """Write (dtype, array) pairs as torch.save writes a state dict."""
    views = {
        key: tensor(storage(dtype, str(index), array.size), array.shape, strides(array.shape))
        for index, (key, (dtype, array)) in enumerate(tensors.items())
    }
    storages = {str(index): array.tobytes() for index, (_, array) in enumerate(tensors.values())}
    return write_archive(path, state_dict(views), storages)


class Calls:
    """An object whose pickle calls a function when it is loaded."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def pickled_call(function, *arguments, protocol: int = 2) -> bytes:
    return pickle.dumps({"a": Calls(function, *arguments)}, protocol)
