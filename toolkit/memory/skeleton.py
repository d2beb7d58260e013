"""A GGUF file for questions about memory: the header and a hole where the weights would be.

The vocabulary is left out, because llama.cpp needs a second for a large one and no buffer depends on more than its size.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from toolkit.errors import GgufError
from toolkit.gguf.format import EMBEDDING, Metadata, string, uint32
from toolkit.gguf.layout import Placed, lay_out

_VOCABULARY = "tokenizer."
_KEPT = ("tokenizer.ggml.token_type_count",)


@dataclass(frozen=True)
class Skeleton:
    """A sparse file, and a digest of all that llama.cpp can know of the model."""

    path: Path
    digest: str


def write_skeleton(metadata: Metadata, tensors: Sequence[Placed], path: Path) -> Skeleton:
    """Write the skeleton of a model with this metadata and these tensors.

    Raises GgufError if it has no token embedding, OSError if the file cannot be written.
    """
    layout = lay_out(without_vocabulary(metadata, tensors), tensors)
    with path.open("wb") as file:
        file.write(layout.header)
        file.truncate(layout.file_bytes)
    return Skeleton(path, hashlib.sha256(layout.header).hexdigest())


def without_vocabulary(metadata: Metadata, tensors: Sequence[Placed]) -> Metadata:
    """Return metadata with a vocabulary of nameless tokens, as many as the embedding has rows.

    Raises GgufError if there is no embedding.
    """
    embedding = next((tensor for tensor in tensors if tensor.name == EMBEDDING), None)
    architecture = metadata.get("general.architecture")
    if embedding is None or architecture is None:
        raise GgufError(f"the model has no {EMBEDDING} or no general.architecture; its memory cannot be told")
    kept = {
        key: value for key, value in metadata.items() if key in _KEPT or not key.startswith((_VOCABULARY, "split."))
    }
    return kept | {
        "tokenizer.ggml.model": string("none"),
        f"{architecture.value}.vocab_size": uint32(embedding.shape[0]),
    }
