"""A checkpoint of the kit that a test may change before it is converted."""

import json
import shutil
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
from checkpoints import write_checkpoint

DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "U32": "<u4", "I8": "i1", "U8": "u1",
    "BOOL": "u1", "F8_E4M3": "u1", "F8_E5M2": "u1",
}  # fmt: skip


@dataclass
class EditableCheckpoint:
    """config.json and tensors (dtype name, array; BF16 as uint16) of a directory, written back by `save`."""

    directory: Path
    config: dict[str, Any]
    tensors: dict[str, tuple[str, numpy.ndarray]]
    config_name: str = "config.json"
    weights_name: str = "model.safetensors"

    def save(self) -> Path:
        (self.directory / "config.json").unlink(missing_ok=True)
        (self.directory / self.config_name).write_text(json.dumps(self.config), encoding="utf-8")
        for file in self.directory.glob("*.safetensors*"):
            file.unlink()
        write_safetensors(self.directory / self.weights_name, self.tensors)
        return self.directory

    def rename(self, old: str, new: str) -> None:
        """Replace the beginning of every tensor name that starts with `old`."""
        self.tensors = {
            (new + name.removeprefix(old) if name.startswith(old) else name): value
            for name, value in self.tensors.items()
        }


def edit_case(case: str, root: Path) -> EditableCheckpoint:
    """Copy a case of the kit below `root` and read it."""
    directory = write_checkpoint(case, root)
    for file in directory.rglob("*"):
        file.chmod(file.stat().st_mode | 0o200)
    tensors: dict[str, tuple[str, numpy.ndarray]] = {}
    for file in sorted(directory.glob("*.safetensors")):
        tensors |= read_safetensors(file)
    return EditableCheckpoint(directory, json.loads((directory / "config.json").read_text(encoding="utf-8")), tensors)


def read_safetensors(path: Path) -> dict[str, tuple[str, numpy.ndarray]]:
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    body = data[8 + length :]
    return {
        name: (
            entry["dtype"],
            numpy.frombuffer(body[slice(*entry["data_offsets"])], DTYPES[entry["dtype"]]).reshape(entry["shape"]),
        )
        for name, entry in header.items()
        if name != "__metadata__"
    }


def write_safetensors(
    path: Path, tensors: Mapping[str, tuple[str, numpy.ndarray]], metadata: Mapping[str, str] | None = None
) -> None:
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name, (dtype, array) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(array.tobytes() for _, array in tensors.values()))


def copy_directory(directory: Path, target: Path) -> Path:
    """Copy a checkpoint so that a test may damage its files."""
    shutil.copytree(directory, target, copy_function=shutil.copyfile)
    return target
