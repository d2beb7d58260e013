"""What the files of sentence-transformers beside a checkpoint say of its embeddings: how those of the tokens become one.

Source: TextModel._try_set_pooling_type in llama.cpp's conversion/base.py.
"""

from pathlib import Path
from typing import Any

from toolkit.errors import CheckpointError
from toolkit.gguf.format import Metadata, uint32
from toolkit.json_files import is_inside, read_json, read_json_object

MODULES = "modules.json"
POOLING_TYPES = {"mean": 1, "cls": 2, "lasttoken": 3}
"""sentence-transformers' name -> llama.cpp's number"""
_FLAGS = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "lasttoken",
}


def pooling_metadata(directory: Path, architecture: str) -> Metadata:
    """Return the pooling type that modules.json leads to; nothing where there is no such file, or no pooling in it.

    Raises CheckpointError if a file is malformed, or names a way of pooling that llama.cpp does not have.
    """
    modules = directory / MODULES
    if not modules.is_file():
        return {}
    folder = _pooling_folder(read_json(modules))
    if folder is None:
        return {}
    config = directory / folder / "config.json"
    if not config.is_file():
        raise CheckpointError(f"{MODULES} names {folder}/config.json, which is missing: download it too")
    return {f"{architecture}.pooling_type": uint32(_pooling_type(read_json_object(config), folder))}


def is_pooled(directory: Path) -> bool:
    """Tell whether the checkpoint is an embedder: its embeddings are pooled, and nothing asks for next tokens."""
    path = directory / MODULES
    return path.is_file() and _pooling_folder(read_json(path)) is not None


def dense_folders(directory: Path) -> tuple[str, ...]:
    """Return the folders of the layers that embeddings pass after pooling, in their order.

    Raises CheckpointError for one outside the checkpoint.
    """
    path = directory / MODULES
    entries = _entries(read_json(path)) if path.is_file() else []
    folders = tuple(str(entry.get("path")) for entry in entries if str(entry.get("type", "")).endswith("Dense"))
    outside = next((folder for folder in folders if not is_inside(folder)), None)
    if outside is not None:
        raise CheckpointError(f"{MODULES} names {outside!r}, which is outside the checkpoint directory")
    return folders


def left_out_modules(directory: Path) -> tuple[str, ...]:
    """Return a warning if embeddings pass further layers after pooling, which are no part of the file."""
    dense = dense_folders(directory)
    if not dense:
        return ()
    return (
        f"{', '.join(dense)}: layers after pooling, left out as llama.cpp's converter does by default; "
        "embeddings are those before them (--dense-modules takes them along where llama.cpp runs them)",
    )


def _entries(modules: Any) -> list[dict[str, Any]]:
    return [entry for entry in modules if isinstance(entry, dict)] if isinstance(modules, list) else []


def _pooling_folder(modules: Any) -> str | None:
    poolings = (entry for entry in _entries(modules) if str(entry.get("type", "")).endswith("Pooling"))
    return next((str(entry.get("path", "")) for entry in poolings), None)


def _pooling_type(config: dict[str, Any], folder: str) -> int:
    flagged = next((name for flag, name in _FLAGS.items() if config.get(flag)), None)
    name = flagged or config.get("pooling_mode")
    if name not in POOLING_TYPES:
        modes = ", ".join(key for key, value in config.items() if key.startswith("pooling_mode") and value) or "none"
        raise CheckpointError(
            f"{folder}/config.json: pooling modes {modes}; llama.cpp pools by {', '.join(POOLING_TYPES)} only"
        )
    return POOLING_TYPES[name]
