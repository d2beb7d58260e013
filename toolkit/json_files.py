"""Read the JSON and text files of a checkpoint, whatever editor wrote them."""

import json
from pathlib import Path
from typing import Any

from toolkit.errors import CheckpointError

LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file, without a byte order mark.

    Raises CheckpointError if the file is not UTF-8, or a git-lfs pointer.
    """
    refuse_lfs_pointer(path)
    data = path.read_bytes()
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise CheckpointError(f"{path.name} is UTF-16; save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path.name} is not UTF-8 (byte {error.start}); save it as UTF-8") from error


def refuse_lfs_pointer(path: Path) -> None:
    """Refuse the few lines that git leaves in place of a large file where git-lfs is not installed.

    Raises CheckpointError.
    """
    with path.open("rb") as file:
        text = file.read(1024)
    if not text.startswith(LFS_POINTER):
        return
    sizes = [line.split()[1] for line in text.decode("ascii", "replace").splitlines() if line.startswith("size ")]
    size = f" to {int(sizes[0]):,} bytes" if sizes and sizes[0].isdecimal() else ""
    raise CheckpointError(f"{path.name} is a git-lfs pointer{size}: run `git lfs pull`")


def read_json(path: Path) -> Any:
    """Return the JSON value in a file.

    Raises CheckpointError if it is no JSON.
    """
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path.name} is not valid JSON: {error}") from error


def read_json_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises CheckpointError if it is no JSON, or no object.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise CheckpointError(f"{path.name} holds a JSON {type(value).__name__}, expected an object")
    return value
