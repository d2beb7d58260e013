"""Read a byte-level BPE vocabulary (GPT-2's kind): tokenizer.json, or vocab.json with merges.txt."""

from collections.abc import Mapping
from typing import Any

from toolkit.errors import TokenizerError
from toolkit.tokenizer.added_tokens import tokens_by_row
from toolkit.tokenizer.byte_alphabet import bytes_by_letter
from toolkit.tokenizer.files import AddedToken, TokenizerFiles
from toolkit.tokenizer.merges import read_merges
from toolkit.tokenizer.pre_tokenizer import choose_pre_tokenizer
from toolkit.tokenizer.vocabulary import Vocabulary


def read_byte_level_bpe(
    files: TokenizerFiles, n_rows: int, config: Mapping[str, Any], pre: str | None
) -> Vocabulary | None:
    """Return the vocabulary of tokenizer.json as model `gpt2`, or None if there is no such file.

    Source: TextModel.get_vocab_base in llama.cpp's conversion/base.py.

    Raises TokenizerError if it is of another kind, has no merges, or splits text in a way that llama.cpp does not know.
    """
    if files.tokenizer_json is None:
        return None
    kind = files.model.get("type", "BPE")
    if kind != "BPE":
        raise TokenizerError(
            f"tokenizer.json holds a {kind} model, expected BPE; this kind of vocabulary is not supported"
        )
    merges = read_merges(files)
    pre, pre_warnings = choose_pre_tokenizer(files.tokenizer_json, config, pre)
    tokens, warnings = tokens_by_row(files, n_rows, _plain_text)
    return Vocabulary("gpt2", pre, tokens, scored=False, merges=merges, warnings=(*pre_warnings, *warnings))


def _plain_text(token: AddedToken) -> str:
    """Return an added token as text: llama.cpp compares it with text, not with its byte-level spelling."""
    alphabet = bytes_by_letter()
    if token.normalized or token.text.isascii() or not all(letter in alphabet for letter in token.text):
        return token.text
    try:
        return bytes(alphabet[letter] for letter in token.text).decode("utf-8")
    except UnicodeDecodeError:
        return token.text
