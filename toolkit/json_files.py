"""Read the JSON and text files of a checkpoint, whatever editor wrote them."""

import json
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from toolkit.errors import CheckpointError
from toolkit.units import format_size

LFS_POINTER = b"version https://git-lfs.github.com/spec/"


MAX_BYTES = 16 << 20
"""A hundred times the longest config of a model; templates, settings and lists of modules are shorter still."""
MAX_VOCABULARY_BYTES = 128 << 20
"""Four times the longest tokenizer.json in use (35 MB)."""
MAX_INDEX_BYTES = 64 << 20
"""Ten times the longest list of tensors in use."""
_LARGER = {
    **dict.fromkeys(("tokenizer.json", "vocab.json", "vocab.txt", "merges.txt", "tekken.json"), MAX_VOCABULARY_BYTES),
    **dict.fromkeys((".model", ".tiktoken"), MAX_VOCABULARY_BYTES),
    ".index.json": MAX_INDEX_BYTES,
}
"""how a file's name ends -> how long it may be"""
_MAX_DIGITS = 40
"""Ten more than 10**30, which transformers writes for a length without a limit."""


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file, without a byte order mark.

    Raises CheckpointError if the file is not UTF-8, a git-lfs pointer, or longer than any of its kind.
    """
    data = read_bounded(path)
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise CheckpointError(f"{path.name} is UTF-16; save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path.name} is not UTF-8 (byte {error.start}); save it as UTF-8") from error


def read_bounded(path: Path) -> bytes:
    """Return the bytes of a file that describes a model.

    Raises CheckpointError if it is a git-lfs pointer, or longer than any of its kind.
    """
    refuse_lfs_pointer(path)
    limit = next((limit for end, limit in _LARGER.items() if path.name.endswith(end)), MAX_BYTES)
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise CheckpointError(
            f"{path.name} is longer than {format_size(limit)}, which none of its kind is: damaged, or another file; "
            "download it again"
        )
    return data


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
    return parse_json(read_text(path), path.name)


def parse_json(text: str, name: str) -> Any:
    """Return the JSON value that a text spells; `name` is what an error calls it.

    Raises CheckpointError if it is no JSON, or holds what no other reader of JSON takes: strings that are no Unicode,
    and integers of more digits than any program counts with.
    """
    try:
        value = json.loads(text, parse_int=_integer)
        # What no escape spells cannot be wrong, for the text was decoded. A vocabulary's reader names the token.
        if ("\\ud" in text or "\\uD" in text) and name != "tokenizer.json":
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise CheckpointError(f"{name} is not valid JSON: half of a surrogate pair stands alone in a string") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{name} is not valid JSON: {error}") from error
    return value


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def read_json_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises CheckpointError if it is no JSON, or no object.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise CheckpointError(f"{path.name} holds a JSON {type(value).__name__}, expected an object")
    return value


def is_inside(name: str) -> bool:
    """Tell whether a name that a file gives means something in the folder of that file, or below it, on any system."""
    here, on_windows = PurePosixPath(name), PureWindowsPath(name)
    leaves = here.is_absolute() or on_windows.drive or on_windows.root
    return not leaves and ".." not in (*here.parts, *on_windows.parts)
