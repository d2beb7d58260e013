"""What the files of sentence-transformers say of an embedder: how it pools tokens, and the layers after that.

Source: TextModel._try_set_pooling_type in conversion/base.py of llama.cpp (commit 0c1e570), and EmbeddingGemma in its
conversion/gemma.py for the layers (--sentence-transformers-dense-modules).
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toolkit.architectures.parts.base import Architecture
from toolkit.checkpoint.checkpoint import open_checkpoint
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.checkpoint.tensor import CheckpointTensor
from toolkit.errors import CheckpointError
from toolkit.gguf.format import Metadata, uint32
from toolkit.json_files import is_inside, read_json, read_json_object
from toolkit.model_source import SourceTensor

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
    """Return a warning if embeddings pass further layers after pooling, which are not part of the file."""
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


ARCHITECTURE = "gemma-embedding"
"""the only graph of llama.cpp that reads their lengths"""
NAMES = ("dense_2", "dense_3")
"""what llama.cpp calls the two that it multiplies with"""


@dataclass(frozen=True)
class Pooling:
    """Tensors and keys beside those of the architecture, and warnings."""

    tensors: tuple[SourceTensor, ...] = ()
    metadata: Metadata = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    stored: tuple[CheckpointTensor, ...] = ()
    """where the tensors are read from"""


def read_pooling(directory: Path, architecture: Architecture, config: ModelConfig, *, dense_modules: bool) -> Pooling:
    """Return what sentence-transformers' files add to a model, with the layers after pooling or without them.

    Raises CheckpointError if the files are malformed, or `dense_modules` asks for layers that llama.cpp does not run.
    """
    metadata = pooling_metadata(directory, architecture.name) if architecture.pools else {}
    if dense_modules:
        stored, lengths = _dense_modules(directory, architecture.name, config)
        named = zip(NAMES, stored, strict=True)
        tensors = tuple(SourceTensor(f"{name}.weight", tensor.rows()) for name, tensor in named)
        return Pooling(tensors, metadata | lengths, stored=stored)
    return Pooling(metadata=metadata, warnings=left_out_modules(directory) if architecture.pools else ())


def _dense_modules(
    directory: Path, architecture: str, config: ModelConfig
) -> tuple[tuple[CheckpointTensor, ...], Metadata]:
    """Return the layers after pooling as llama.cpp runs them: two matrices, back to the embedding's length."""
    folders = dense_folders(directory)
    if architecture != ARCHITECTURE or len(folders) != len(NAMES):
        raise CheckpointError(
            f"--dense-modules: llama.cpp runs two layers after pooling for {ARCHITECTURE} only; "
            f"this is {architecture} with {len(folders)}"
        )
    layers = [_layer(directory / folder) for folder in folders]
    length = config.integer("hidden_size")
    middle = layers[0].shape[0]
    expected = [(middle, length), (length, middle)]
    if [layer.shape for layer in layers] != expected:
        shapes = " and ".join(str(list(layer.shape)) for layer in layers)
        raise CheckpointError(f"{', '.join(folders)}: shapes {shapes}, expected [n, {length}] and [{length}, n]")
    metadata: Metadata = {}
    for layer, name in zip(layers, NAMES, strict=True):
        metadata[f"{architecture}.{name}_feat_in"] = uint32(layer.shape[1])
        metadata[f"{architecture}.{name}_feat_out"] = uint32(layer.shape[0])
    return tuple(layers), metadata


def _layer(folder: Path) -> CheckpointTensor:
    module = open_checkpoint(folder)
    _refuse_more_than_a_matrix(folder.name, module.config, set(module.tensors))
    return module.tensors["linear.weight"]


def _refuse_more_than_a_matrix(folder: str, config: dict[str, Any], names: set[str]) -> None:
    activation = str(config.get("activation_function", "")).rpartition(".")[2] or "Identity"
    if names != {"linear.weight"} or activation != "Identity":
        raise CheckpointError(
            f"{folder}: {', '.join(sorted(names))} with activation {activation}; llama.cpp multiplies with "
            "linear.weight and does nothing else"
        )
