"""The merges of a BPE vocabulary, in GGUF's spelling: two pieces with a space between them."""

from pathlib import Path
from typing import Any

from toolkit.errors import TokenizerError
from toolkit.json_files import read_text
from toolkit.tokenizer.files import TokenizerFiles

_BYTE_LEVEL_SPACE = chr(ord(" ") + 256)


def read_merges(files: TokenizerFiles) -> tuple[str, ...]:
    """Return the merges of tokenizer.json, whether it holds strings or pairs.

    Raises TokenizerError if there are none, or one is malformed.
    """
    merges = files.model.get("merges")
    if not isinstance(merges, list) or not merges:
        raise TokenizerError("tokenizer.json has no merges; a BPE vocabulary cannot work without them")
    return tuple(_merge(merge, index) for index, merge in enumerate(merges))


def read_merges_file(path: Path) -> tuple[list[str], tuple[str, ...]]:
    """Return the merges of a merges.txt and a warning for each malformed line.

    Raises TokenizerError if the file holds no merges.
    """
    merges, warnings = [], []
    for number, line in enumerate(read_text(path).replace("\r\n", "\n").split("\n"), start=1):
        parts = line.split()
        if not parts or (number == 1 and line.startswith("#")):
            continue
        if len(parts) == 2:
            merges.append(f"{parts[0]} {parts[1]}")
        else:
            warnings.append(
                f"{path.name} line {number} is malformed and left out: {line.strip()!r}, expected two pieces"
            )
    if not merges:
        raise TokenizerError(f"{path.name} holds no merges; a BPE vocabulary cannot work without them")
    return merges, tuple(warnings)


def _merge(merge: Any, index: int) -> str:
    if isinstance(merge, str) and " " in merge[1:]:
        return merge
    match merge:
        case [str(left), str(right)] if left and right:
            return f"{_spelled(left)} {_spelled(right)}"
    raise TokenizerError(f"tokenizer.json: merge {index} is {merge!r}, expected two pieces")


def _spelled(part: str) -> str:
    return part.replace(" ", _BYTE_LEVEL_SPACE) if " " in part else part
