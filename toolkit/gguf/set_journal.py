"""The journal of a set of files: while they get their names one after another, it says which of them have theirs.

It lies in the set's work folder. If a run is killed meanwhile, the next run finds the journal and takes the incomplete set
back: it removes the files that were named, and brings back those that they replaced. The file that is named last seals the
set: with it, the set is complete. A single file needs a journal only where its name must be reserved before a rename.
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
    """Write down the files that are about to get these names, the seal last; from then on `take_back` works."""
    entries = [{"name": name} | _identity(work) for work, name in works]
    draft = folder / f"{NAME}.new"
    with draft.open("w", encoding="utf-8") as file:
        json.dump(entries, file)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(folder / NAME)


def set_aside(folder: Path, outputs: Sequence[Path]) -> None:
    """Move the files to be replaced into the work folder, the seal first: without it, the rest is not a complete set."""
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
    """Return what distinguishes a file from others of its name, and stays the same when it is renamed."""
    status = path.stat()
    return {"inode": status.st_ino, "bytes": status.st_size, "changed_ns": status.st_mtime_ns}


def _bears_its_name(folder: Path, entry: dict[str, Any]) -> bool:
    try:
        return {"name": entry["name"]} | _identity(folder / entry["name"]) == entry
    except OSError:
        return False


def _is_only_taken(path: Path) -> bool:
    """Tell whether a name was reserved for a file that did not get it yet: the file is empty, so removing it loses nothing."""
    return path.is_file() and path.stat().st_size == 0
