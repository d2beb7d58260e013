"""Read a WordPiece vocabulary (BERT), GGUF's model `bert`: tokenizer.json, or vocab.txt with tokenizer_config.json."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from toolkit.errors import TokenizerError
from toolkit.json_files import read_text
from toolkit.tokenizer.files import AddedToken, TokenizerFiles, role_texts
from toolkit.tokenizer.vocabulary import Token, TokenType, Vocabulary, tokens_by_row

FILE = "vocab.txt"
CONTINUES = "##"

_CLASS_TEXTS = {"unk": "[UNK]", "sep": "[SEP]", "pad": "[PAD]", "cls": "[CLS]", "mask": "[MASK]"}
"""What BertTokenizer calls its special tokens where tokenizer_config.json is silent."""


def read_wordpiece(files: TokenizerFiles, n_rows: int) -> Vocabulary | None:
    """Return the vocabulary of tokenizer.json, or of vocab.txt; None if neither is there or it is of another kind.

    llama.cpp marks the beginning of words where BERT marks what continues them (BertModel.set_vocab in its
    conversion/bert.py). It splits words by rules of its own, so the name of the pre-tokenizer means nothing.

    Raises TokenizerError if a file is malformed, or marks continuations otherwise.
    """
    if files.model.get("type") != "WordPiece":
        return None
    prefix = files.model.get("continuing_subword_prefix", CONTINUES)
    if prefix != CONTINUES:
        raise TokenizerError(
            f"tokenizer.json: continuing_subword_prefix is {prefix!r}; llama.cpp knows {CONTINUES!r} only"
        )
    tokens, warnings = tokens_by_row(files, n_rows, _text)
    pieces = tuple(_marked(token) for token in tokens)
    return Vocabulary("bert", "bert-bge", pieces, scored=False, warnings=warnings)


def _text(token: AddedToken) -> str:
    return token.text


def _marked(token: Token) -> Token:
    if token.type == TokenType.CONTROL:
        return token
    if token.text.startswith(CONTINUES):
        return replace(token, text=token.text.removeprefix(CONTINUES))
    return replace(token, text="▁" + token.text)


def with_vocabulary_text(files: TokenizerFiles) -> TokenizerFiles:
    """Return the files with the tokenizer.json that BertTokenizerFast makes of vocab.txt, if there is only that.

    Raises TokenizerError if the file is empty.
    """
    path = files.path(FILE)
    if files.tokenizer_json is not None or not path.is_file():
        return files
    lines = read_text(path).replace("\r\n", "\n").removesuffix("\n").split("\n")
    if not any(lines):
        raise TokenizerError(f"{FILE} is empty, expected one token a line; download it again")
    vocabulary = {text: index for index, text in enumerate(lines)}
    texts = _CLASS_TEXTS | role_texts(files)
    named = {f"{role}_token": text for role, text in texts.items()}
    made = _tokenizer_json(files.settings, vocabulary, texts)
    return replace(files, tokenizer_json=made, tokenizer_config=dict(files.settings) | named)


def _tokenizer_json(
    settings: Mapping[str, Any], vocabulary: Mapping[str, int], texts: Mapping[str, str]
) -> dict[str, Any]:
    special = [text for text in dict.fromkeys(texts.values()) if text in vocabulary]
    first, last = ({"SpecialToken": {"id": texts[role]}} for role in ("cls", "sep"))
    first_text, second_text = ({"Sequence": {"id": name}} for name in "AB")
    return {
        "model": {"type": "WordPiece", "vocab": vocabulary},
        "added_tokens": [{"id": vocabulary[text], "content": text, "special": True} for text in special],
        "normalizer": {
            "type": "BertNormalizer",
            "lowercase": bool(settings.get("do_lower_case", True)),
            "strip_accents": settings.get("strip_accents"),
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [first, first_text, last],
            "pair": [first, first_text, last, second_text, last],
        },
    }
