"""What a model cannot be asked for, told before llama.cpp answers with zeros or ends the process.

Encoders predict no next token, and a model with an encoder does so only after that has run. Models that look their
positions up in a table of learnt ones have none beyond its end.
"""

import ctypes
from collections.abc import Callable, Iterable
from typing import Any

from toolkit.errors import InputError
from toolkit.gguf.format import Metadata
from toolkit.gguf.layout import Placed

GIVES_EMBEDDINGS = "the model gives embeddings"
NEEDS_ENCODER = "the model has an encoder of its own, which must run first"
_BUFFER_BYTES = 64
TABLE = "position_embd.weight"
LEARNT_POSITIONS = ("bert", "gpt2", "mpt", "starcoder")
"""the architectures that may have the table; some MPT models have none"""


def why_no_next_token(metadata: Metadata, tensors: Iterable[str]) -> str | None:
    """Return why a model with this metadata and these tensors predicts no next token, None if it does."""
    if any(name.startswith("enc.") for name in tensors):
        return NEEDS_ENCODER
    causal = [value.value for key, value in metadata.items() if key.endswith(".attention.causal")]
    return GIVES_EMBEDDINGS if causal == [False] else None


def refuse_without_next_token(name: str, reason: str | None) -> None:
    """Raise InputError where there is a reason against evaluating a model called so."""
    if reason is not None:
        raise InputError(f"{name}: {reason}, so there is no next token to predict")


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


def learnt_positions(architecture: str | None, tensors: Callable[[], Iterable[Placed]]) -> int | None:
    """Return how many positions a model has learnt, None if it has no table of them; few architectures need a look."""
    if architecture not in LEARNT_POSITIONS:
        return None
    return next((tensor.shape[0] for tensor in tensors() if tensor.name == TABLE), None)


def check_positions(name: str, positions: int | None, n_ctx: int) -> None:
    """Raise InputError for sequences of n_ctx tokens where fewer positions were learnt."""
    if positions is not None and n_ctx > positions:
        raise InputError(
            f"{name} has learnt {positions:,} positions, so sequences of {n_ctx:,} tokens cannot be evaluated; the largest "
            f"usable n_ctx is {positions}"
        )
