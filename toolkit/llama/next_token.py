"""Whether a model predicts a next token: encoders do not, and a model with an encoder does so only after that has run.

llama.cpp gives zeros for the first and ends the process for the second, so both are told apart before.
"""

import ctypes
from collections.abc import Iterable
from typing import Any

from toolkit.errors import InputError
from toolkit.gguf.format import Metadata

GIVES_EMBEDDINGS = "the model gives embeddings"
NEEDS_ENCODER = "the model has an encoder of its own, which must run first"
_BUFFER_BYTES = 64


def why_no_next_token(metadata: Metadata, tensors: Iterable[str]) -> str | None:
    """Return why a model with this metadata and these tensors predicts no next token, None if it does."""
    if any(name.startswith("enc.") for name in tensors):
        return NEEDS_ENCODER
    causal = [value.value for key, value in metadata.items() if key.endswith(".attention.causal")]
    return GIVES_EMBEDDINGS if causal == [False] else None


def refuse_without_next_token(name: str, why: str | None) -> None:
    """Raise InputError where there is a reason against evaluating a model called so."""
    if why is not None:
        raise InputError(f"{name}: {why}, so there is no next token to predict")


def why_loaded_model_predicts_none(library: Any, model: Any) -> str | None:
    """Return the same of a model that llama.cpp has loaded; `library` is the module of llama-cpp-python."""
    if library.llama_model_has_encoder(model):
        return NEEDS_ENCODER
    architecture = loaded_architecture(library, model)
    causal = _text(library, model, f"{architecture}.attention.causal")
    return GIVES_EMBEDDINGS if causal == "false" else None


def loaded_architecture(library: Any, model: Any) -> str | None:
    """Return `general.architecture` of a model that llama.cpp has loaded."""
    return _text(library, model, "general.architecture")


def _text(library: Any, model: Any, key: str) -> str | None:
    buffer = ctypes.create_string_buffer(_BUFFER_BYTES)
    length = library.llama_model_meta_val_str(model, key.encode(), buffer, len(buffer))
    return buffer.value.decode("utf-8", "replace") if length >= 0 else None
