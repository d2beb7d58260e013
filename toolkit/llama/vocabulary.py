"""Text to tokens and back, with a vocabulary that llama.cpp has loaded: a model's, or that of a file without its weights.

The functions' `vocabulary` is a llama_vocab pointer.
"""

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from toolkit.errors import InputError, ToolkitError
from toolkit.llama.native import llama_cpp
from toolkit.llama.opening import check_opens
from toolkit.llama.parameters import load_model

_NO_VOCABULARY = 0
"""`LLAMA_VOCAB_TYPE_NONE`"""


def has_text(vocabulary: Any) -> bool:
    """Tell whether tokens have texts: in a file without a vocabulary they only have numbers."""
    return int(llama_cpp().llama_vocab_type(vocabulary)) != _NO_VOCABULARY


def tokenize(vocabulary: Any, text: str, *, add_special: bool = True, parse_special: bool = False) -> list[int]:
    """Return the token ids of a text; special tokens written in it are plain text unless `parse_special`.

    Raises InputError if the file has no vocabulary: llama.cpp would end the process.
    """
    if not has_text(vocabulary):
        raise InputError(
            "the model has no vocabulary (its tokenizer.ggml.model is `none`), so there are no tokens of a text"
        )
    data = text.encode("utf-8")
    capacity = len(data) + 16
    for _ in range(2):
        buffer = (ctypes.c_int32 * capacity)()
        count = llama_cpp().llama_tokenize(vocabulary, data, len(data), buffer, capacity, add_special, parse_special)
        if count >= 0:
            return list(buffer[:count])
        capacity = -count
    raise ToolkitError(f"llama.cpp could not tokenize a text of {len(data):,} bytes")


def detokenize(vocabulary: Any, tokens: Sequence[int], *, special: bool = False) -> str:
    """Return the text of tokens; what is no UTF-8 becomes U+FFFD."""
    ids = (ctypes.c_int32 * len(tokens))(*tokens)
    capacity = 16 * len(tokens) + 16
    for _ in range(2):
        buffer = ctypes.create_string_buffer(capacity)
        count = llama_cpp().llama_detokenize(vocabulary, ids, len(tokens), buffer, capacity, False, special)
        if count >= 0:
            return buffer.raw[:count].decode("utf-8", "replace")
        capacity = -count
    raise ToolkitError(f"llama.cpp could not give the text of {len(tokens):,} tokens")


def piece(vocabulary: Any, token: int, *, special: bool = False) -> bytes:
    """Return the bytes of one token: a part of a text, and maybe of a character; special tokens are empty unless asked for."""
    capacity = 64
    for _ in range(2):
        buffer = ctypes.create_string_buffer(capacity)
        count = llama_cpp().llama_token_to_piece(vocabulary, token, buffer, capacity, 0, special)
        if count >= 0:
            return buffer.raw[:count]
        capacity = -count
    raise ToolkitError(f"llama.cpp could not give the text of token {token}")


class LlamaVocabulary:
    """A vocabulary; use it in a `with` statement, which frees it."""

    def __init__(self, path: Path) -> None:
        """Load it.

        Raises GgufError if llama.cpp refuses the file.
        """
        check_opens(path)
        parameters = llama_cpp().llama_model_default_params()
        parameters.vocab_only = True
        self._model: Any = load_model(path, parameters)
        self._vocabulary: Any = llama_cpp().llama_model_get_vocab(self._model)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._model:
            llama_cpp().llama_model_free(self._model)
        self._model = None

    @property
    def n_tokens(self) -> int:
        """Return the number of tokens."""
        return int(llama_cpp().llama_vocab_n_tokens(self._vocabulary))

    def tokenize(self, text: str, *, parse_special: bool = False) -> list[int]:
        """Return the token ids of a text, with nothing added to it."""
        return tokenize(self._vocabulary, text, add_special=False, parse_special=parse_special)

    def detokenize(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens; what is no UTF-8 becomes U+FFFD."""
        return detokenize(self._vocabulary, tokens)
