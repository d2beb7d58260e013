"""What says, while the files of a set get their names one after another, which of them have them by now.

It lies in the set's work folder. A file by itself needs one only where its name has to be taken before it can be given. A run that is killed meanwhile leaves it there, and whoever finds it takes the half set back:
what was named goes, and what it replaced returns. The file that is named last seals the set: with it, the set is whole.
"""

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

NAME = "journal"
_REPLACED = "replaced"


def begin(folder: Path, works: Sequence[tuple[Path, str]]) -> None:
    """Write down the files that are about to get these names, the seal last; from now on `take_back` works."""
    entries = [{"name": name} | _identity(work) for work, name in works]
    draft = folder / f"{NAME}.new"
    with draft.open("w", encoding="utf-8") as file:
        json.dump(entries, file)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(folder / NAME)


def set_aside(folder: Path, outputs: Sequence[Path]) -> None:
    """Move what is to be replaced into the work folder, the seal first: what is left of the old set is no set any more."""
    place = folder / _REPLACED
    place.mkdir()
    for output in outputs:
        with suppress(FileNotFoundError):
            output.rename(place / output.name)


def take_back(folder: Path) -> None:
    """Remove what was named of a set and bring back what it replaced, unless all was named."""
    try:
        entries = json.loads((folder / NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return  # nothing was named yet
    if not entries or _bears_its_name(folder.parent, entries[-1]):
        return
    for entry in entries:
        if _bears_its_name(folder.parent, entry) or _is_only_taken(folder.parent / entry["name"]):
            (folder.parent / entry["name"]).unlink(missing_ok=True)
    replaced = {path.name: path for path in (folder / _REPLACED).glob("*")}
    for entry in entries:  # the seal last
        path, place = replaced.get(entry["name"]), folder.parent / entry["name"]
        if path is not None and not os.path.lexists(place):
            path.rename(place)


def _identity(path: Path) -> dict[str, Any]:
    """Return what tells a file from any other that has its name; a change of name changes none of it."""
    status = path.stat()
    return {"inode": status.st_ino, "bytes": status.st_size, "changed_ns": status.st_mtime_ns}


def _bears_its_name(folder: Path, entry: dict[str, Any]) -> bool:
    try:
        return {"name": entry["name"]} | _identity(folder / entry["name"]) == entry
    except OSError:
        return False


def _is_only_taken(path: Path) -> bool:
    """Tell whether a name was taken for a file that did not get it yet; what is empty is no loss, whosever it was."""
    return path.is_file() and path.stat().st_size == 0
