"""From a checkpoint's tokenizer files to the `tokenizer.*` keys of a GGUF file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from toolkit.errors import TokenizerError
from toolkit.gguf.format import Metadata, ValueType, array, boolean, string, uint32
from toolkit.tokenizer.byte_level_bpe import read_byte_level_bpe, with_tokenizer_json
from toolkit.tokenizer.chat_template import chat_template_metadata
from toolkit.tokenizer.families import Family, family_metadata, family_of, llama_metadata, with_family_tokens
from toolkit.tokenizer.files import TokenizerFiles, missing_tokenizer, open_tokenizer_files
from toolkit.tokenizer.llama_hf import read_gemma4, read_llama_hf
from toolkit.tokenizer.pre_tokenizer import checked_name
from toolkit.tokenizer.sentencepiece_model import read_sentencepiece
from toolkit.tokenizer.special_tokens import SpecialTokens, read_special_tokens, with_vocabulary_ids
from toolkit.tokenizer.tekken import read_tekken
from toolkit.tokenizer.tiktoken import read_kimi_tiktoken, read_qwen_tiktoken
from toolkit.tokenizer.unigram import read_t5, read_xlm_roberta
from toolkit.tokenizer.vocabulary import Vocabulary, distinct
from toolkit.tokenizer.wordpiece import read_wordpiece, with_vocabulary_text

__all__ = ["Tokenizer", "TokenizerRequest", "read_tokenizer"]

LLAMA_STYLES = ("tekken", "sentencepiece", "llama_hf", "bpe")

_READERS: dict[str, Callable[[TokenizerFiles, int], Vocabulary | None]] = {
    "sentencepiece": read_sentencepiece,
    "llama_hf": read_llama_hf,
    "gemma4": read_gemma4,
    "tekken": read_tekken,
    "qwen_tiktoken": read_qwen_tiktoken,
    "kimi_tiktoken": read_kimi_tiktoken,
    "t5": read_t5,
    "xlm_roberta": read_xlm_roberta,
    "wordpiece": read_wordpiece,
}
"""Style -> the function that reads it, given the files and the number of rows; `bpe` needs more."""

_ROLE_KEYS = {
    "bos": "bos", "eos": "eos", "unk": "unknown", "sep": "seperator", "pad": "padding", "mask": "mask", "eot": "eot",
    "eom": "eom",
}  # fmt: skip
"""GGUF's spelling of a role; llama.cpp's converter writes no key for `cls`."""
_ADDED_ROLES = ("bos", "eos", "sep")


@dataclass(frozen=True)
class TokenizerRequest:
    """What to read: a directory, its config.json (with `text_config` merged), and the number of embedding rows.

    `styles` are tried in order; `pre` overrides the name of the BPE pre-tokenizer.
    """

    directory: Path
    config: Mapping[str, Any]
    n_embedding_rows: int
    styles: tuple[str, ...] = LLAMA_STYLES
    pre: str | None = None


@dataclass(frozen=True)
class Tokenizer:
    """A vocabulary as GGUF metadata."""

    metadata: Metadata
    warnings: tuple[str, ...]
    n_tokens: int
    model: str


def read_tokenizer(request: TokenizerRequest) -> Tokenizer:
    """Return the vocabulary of a checkpoint, one token for each row of its embedding.

    Raises TokenizerError if there is no vocabulary, or it is not understood; InputError if a file is malformed.
    """
    files, slow_warnings = with_tokenizer_json(open_tokenizer_files(request.directory), request.config)
    if "wordpiece" in request.styles:
        files = with_vocabulary_text(files)
    vocabulary = distinct(_read_vocabulary(files, request))
    family = family_of(request.config)
    special = with_vocabulary_ids(read_special_tokens(files, request.config, vocabulary), vocabulary)
    special = with_family_tokens(special, family, files, vocabulary)
    templates, template_warnings = chat_template_metadata(files)
    return Tokenizer(
        metadata={
            **_vocabulary_metadata(vocabulary),
            **_special_metadata(special),
            **templates,
            **_family_metadata(request, family, files, vocabulary),
        },
        warnings=(*slow_warnings, *vocabulary.warnings, *special.warnings, *template_warnings),
        n_tokens=len(vocabulary.tokens),
        model=vocabulary.model,
    )


def _read_vocabulary(files: TokenizerFiles, request: TokenizerRequest) -> Vocabulary:
    for style in request.styles:
        vocabulary = _read_style(style, files, request)
        if vocabulary is not None:
            _refuse_broken_text(vocabulary)
            return _with_pre(vocabulary, request.pre)
    raise missing_tokenizer(files, request.styles)


def _with_pre(vocabulary: Vocabulary, pre: str | None) -> Vocabulary:
    """Return the vocabulary with the pre-tokenizer that the user named, if it is of a kind that has a pre-tokenizer."""
    return vocabulary if pre is None or vocabulary.model != "gpt2" else replace(vocabulary, pre=checked_name(pre))


def _read_style(style: str, files: TokenizerFiles, request: TokenizerRequest) -> Vocabulary | None:
    if style == "bpe":
        return read_byte_level_bpe(files, request.n_embedding_rows, request.config, request.pre)
    return _READERS[style](files, request.n_embedding_rows)


def _refuse_broken_text(vocabulary: Vocabulary) -> None:
    for index, token in enumerate(vocabulary.tokens):
        try:
            token.text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise TokenizerError(f"token {index} is {token.text!r}, which is not Unicode text") from error


def _vocabulary_metadata(vocabulary: Vocabulary) -> Metadata:
    tokens = vocabulary.tokens
    metadata: Metadata = {"tokenizer.ggml.model": string(vocabulary.model)}
    if vocabulary.pre is not None:
        metadata["tokenizer.ggml.pre"] = string(vocabulary.pre)
    metadata["tokenizer.ggml.tokens"] = array(ValueType.STRING, (token.text for token in tokens))
    if vocabulary.scored:
        metadata["tokenizer.ggml.scores"] = array(ValueType.FLOAT32, (token.score for token in tokens))
    metadata["tokenizer.ggml.token_type"] = array(ValueType.INT32, (int(token.type) for token in tokens))
    if vocabulary.merges:
        metadata["tokenizer.ggml.merges"] = array(ValueType.STRING, vocabulary.merges)
    return metadata | vocabulary.metadata


def _special_metadata(special: SpecialTokens) -> Metadata:
    ids = {f"tokenizer.ggml.{key}_token_id": special.ids.get(role) for role, key in _ROLE_KEYS.items()}
    adds = {f"tokenizer.ggml.add_{role}_token": special.adds.get(role) for role in _ADDED_ROLES}
    flags = {
        **adds,
        "tokenizer.ggml.normalizer.lowercase": special.lowercase,
        "tokenizer.ggml.normalizer.strip_accents": special.strip_accents,
    }
    return {key: uint32(index) for key, index in ids.items() if index is not None} | {
        key: boolean(flag) for key, flag in flags.items() if flag is not None
    }


def _family_metadata(
    request: TokenizerRequest, family: Family, files: TokenizerFiles, vocabulary: Vocabulary
) -> Metadata:
    llama = llama_metadata(files, request.config, len(vocabulary.tokens)) if request.styles == LLAMA_STYLES else {}
    return llama | family_metadata(family, files, vocabulary)
