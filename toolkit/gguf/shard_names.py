"""How llama.cpp names the files of a split model: NAME-00001-of-00009.gguf, counted from 1.

Source: `llama_split_path` and `llama_split_prefix` in src/llama.cpp.
"""

import re
from dataclasses import dataclass
from pathlib import Path

_NAME = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.DOTALL)


@dataclass(frozen=True)
class ShardName:
    """The name of one file of a set."""

    stem: str
    number: int
    count: int

    @property
    def file_name(self) -> str:
        """Return it as llama.cpp writes it."""
        return f"{self.stem}-{self.number:05d}-of-{self.count:05d}.gguf"


def shard_name(path: Path) -> ShardName | None:
    """Return number and count from the name of a file of a set, None if it is the name of a whole file."""
    match = _NAME.fullmatch(path.name)
    return ShardName(match["stem"], int(match["number"]), int(match["count"])) if match else None


def shard_path(output: Path, number: int, count: int) -> Path:
    """Return the path of file `number` of `count`, for an output NAME.gguf or a part of one."""
    return output.with_name(ShardName(stem(output), number, count).file_name)


def stem(path: Path) -> str:
    """Return a name without number and suffix."""
    part = shard_name(path)
    return part.stem if part is not None else path.name.removesuffix(".gguf")


def whole_name(path: Path) -> str:
    """Return the name of the whole file for that of a part, or of a whole."""
    return f"{stem(path)}.gguf"


def parts_beside(path: Path) -> tuple[Path, ...]:
    """Return the files that a GGUF source may consist of: itself, the other parts of its set, or those in the folder that it is."""
    if path.is_dir():
        return tuple(path.glob("*.gguf"))
    part = shard_name(path)
    if part is None:
        return (path,)
    return tuple(other for other in path.parent.glob("*.gguf") if _is_of_set(shard_name(other), part))


def _is_of_set(other: ShardName | None, part: ShardName) -> bool:
    return other is not None and (other.stem, other.count) == (part.stem, part.count)
