"""The `model` of tokenizer.json where its vocabulary is an object of texts and ids: BPE and WordPiece."""

from collections.abc import Mapping
from typing import Any

from toolkit.errors import TokenizerError


def vocabulary_ids(model: Mapping[str, Any]) -> dict[str, int]:
    """Return the `vocab` of the model: ids by text.

    Raises TokenizerError if it is missing or malformed.
    """
    return checked_ids(model.get("vocab"), "tokenizer.json: model.vocab")


def checked_ids(vocabulary: Any, place: str) -> dict[str, int]:
    """Return an object of texts and ids as it is.

    Raises TokenizerError, naming `place`, if it is no such object.
    """
    if not isinstance(vocabulary, dict) or not vocabulary:
        raise TokenizerError(f"{place} is missing or empty, expected an object of texts and ids")
    for text, index in vocabulary.items():
        if not isinstance(index, int) or index < 0:
            raise TokenizerError(f"{place} gives {text!r} the id {index!r}, expected a whole number")
    return vocabulary


def too_few_rows(index: int, text: str, n_rows: int) -> TokenizerError:
    """Return the error for a vocabulary that is larger than the embedding."""
    return TokenizerError(
        f"the vocabulary has token {index} ({text!r}) but the embedding has only {n_rows} rows; "
        "tokenizer and weights are not of the same model"
    )
