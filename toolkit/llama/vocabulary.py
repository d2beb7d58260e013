"""The vocabulary of a GGUF file in llama.cpp, loaded without the weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from toolkit.llama.native import llama_cpp
from toolkit.llama.opening import check_opens
from toolkit.llama.parameters import load_model
from toolkit.llama.text import detokenize, tokenize


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
