"""How an embedder's tokens become one embedding: the way of pooling, and the layers after it in folders of their own.

Source: EmbeddingGemma in conversion/gemma.py of llama.cpp (commit 0c1e570), for --sentence-transformers-dense-modules.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toolkit.architectures.parts.base import Architecture
from toolkit.checkpoint.checkpoint import open_checkpoint
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.checkpoint.sentence_transformers import dense_folders, left_out_modules, pooling_metadata
from toolkit.checkpoint.tensor import CheckpointTensor
from toolkit.errors import CheckpointError
from toolkit.gguf.format import Metadata, uint32
from toolkit.model_source import SourceTensor

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
        found = " and ".join(str(list(layer.shape)) for layer in layers)
        raise CheckpointError(f"{', '.join(folders)}: shapes {found}, expected [n, {length}] and [{length}, n]")
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
