"""Read a byte-level BPE vocabulary (GPT-2's kind): tokenizer.json, or vocab.json with merges.txt.

Bytes are spelled as letters there: printable ones stand for themselves, the others for letters from U+0100 on. Merges are
in GGUF's spelling: two pieces with a space between them.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from toolkit.errors import TokenizerError
from toolkit.json_files import read_json_object, read_text
from toolkit.tokenizer.files import AddedToken, TokenizerFiles
from toolkit.tokenizer.pre_tokenizer import choose_pre_tokenizer
from toolkit.tokenizer.pre_tokenizer_table import CLASS_SPLITS
from toolkit.tokenizer.vocabulary import Vocabulary, checked_ids, gather_added_tokens, tokens_by_row

END_OF_TEXT = "<|endoftext|>"
_BYTE_LEVEL_SPACE = chr(ord(" ") + 256)
_CLASS_BY_MODEL_TYPE = {
    "gpt": "GPT2Tokenizer",
    "starcoder": "GPT2Tokenizer",
    "phi": "GPT2Tokenizer",
    "qwen": "Qwen2Tokenizer",
}
"""beginning of config.json's model_type -> the tokenizer class where tokenizer_config.json does not name it"""
_CLASS_ROLES = {"GPT2Tokenizer": ("bos", "eos", "unk"), "Qwen2Tokenizer": ("eos", "unk", "pad")}
"""tokenizer class -> the roles that <|endoftext|> plays there unless the files say otherwise"""


@cache
def byte_of_letter() -> dict[str, int]:
    """Return the byte that each of the 256 letters of GPT-2's alphabet stands for."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


@cache
def _letters() -> tuple[str, ...]:
    letters = {byte: letter for letter, byte in byte_of_letter().items()}
    return tuple(letters[byte] for byte in range(256))


def spelled(data: bytes) -> str:
    """Return bytes in the letters of GPT-2's alphabet."""
    letters = _letters()
    return "".join(letters[byte] for byte in data)


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
    alphabet = byte_of_letter()
    if token.normalized or token.text.isascii() or not all(letter in alphabet for letter in token.text):
        return token.text
    try:
        return bytes(alphabet[letter] for letter in token.text).decode("utf-8")
    except UnicodeDecodeError:
        return token.text


def read_merges(files: TokenizerFiles) -> tuple[str, ...]:
    """Return the merges of tokenizer.json, whether it holds strings or pairs.

    Raises TokenizerError if there are none, or one is malformed.
    """
    merges = files.model.get("merges")
    if not isinstance(merges, list) or not merges:
        raise TokenizerError("tokenizer.json has no merges; a BPE vocabulary cannot work without them")
    return tuple(_merge(merge, index) for index, merge in enumerate(merges))


def read_merges_file(path: Path) -> tuple[list[str], tuple[str, ...]]:
    """Return the merges of a merges.txt and a warning for each malformed line.

    Raises TokenizerError if the file holds no merges.
    """
    merges, warnings = [], []
    for number, line in enumerate(read_text(path).replace("\r\n", "\n").split("\n"), start=1):
        parts = line.split()
        if not parts or (number == 1 and line.startswith("#")):
            continue
        if len(parts) == 2:
            merges.append(f"{parts[0]} {parts[1]}")
        else:
            warnings.append(
                f"{path.name} line {number} is malformed and left out: {line.strip()!r}, expected two pieces"
            )
    if not merges:
        raise TokenizerError(f"{path.name} holds no merges; a BPE vocabulary cannot work without them")
    return merges, tuple(warnings)


def _merge(merge: Any, index: int) -> str:
    if isinstance(merge, str) and " " in merge[1:]:
        return merge
    match merge:
        case [str(left), str(right)] if left and right:
            return f"{_without_spaces(left)} {_without_spaces(right)}"
    raise TokenizerError(f"tokenizer.json: merge {index} is {merge!r}, expected two pieces")


def _without_spaces(part: str) -> str:
    return part.replace(" ", _BYTE_LEVEL_SPACE) if " " in part else part


def with_tokenizer_json(files: TokenizerFiles, config: Mapping[str, Any]) -> tuple[TokenizerFiles, tuple[str, ...]]:
    """Return the files with a tokenizer.json made of vocab.json and merges.txt, if only those are there.

    Raises TokenizerError if one of the two is missing or malformed.
    """
    vocabulary_file, merges_file = files.path("vocab.json"), files.path("merges.txt")
    if files.tokenizer_json is not None or not vocabulary_file.is_file():
        return files, ()
    if not merges_file.is_file():
        raise TokenizerError(f"{files.directory} has vocab.json but no merges.txt, and no tokenizer.json instead")
    vocabulary = checked_ids(read_json_object(vocabulary_file), "vocab.json")
    merges, warnings = read_merges_file(merges_file)
    made = _tokenizer_json(_with_class_defaults(files, config, vocabulary), config, vocabulary, merges)
    return replace(files, tokenizer_json=made), warnings


def _tokenizer_json(
    files: TokenizerFiles, config: Mapping[str, Any], vocabulary: Mapping[str, int], merges: list[str]
) -> dict[str, Any]:
    added = [
        {"id": token.id, "content": token.text, "special": token.special, "normalized": token.normalized}
        for token in gather_added_tokens(files, vocabulary)
    ]
    split = CLASS_SPLITS.get(_tokenizer_class(files, config))
    steps = [{"type": "Split", "pattern": {"Regex": split}, "behavior": "Isolated"}] if split else []
    return {
        "model": {"type": "BPE", "vocab": vocabulary, "merges": merges},
        "added_tokens": added,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps},
        "post_processor": {"type": "ByteLevel"},
    }


def _with_class_defaults(
    files: TokenizerFiles, config: Mapping[str, Any], vocabulary: Mapping[str, int]
) -> TokenizerFiles:
    """Return the files with the special tokens that the tokenizer's class has where its config is silent."""
    if END_OF_TEXT not in {*vocabulary, *files.added_tokens}:
        return files
    roles = _CLASS_ROLES.get(_tokenizer_class(files, config), ())
    defaults = {f"{role}_token": END_OF_TEXT for role in roles}
    return replace(files, tokenizer_config=defaults | dict(files.settings))


def _tokenizer_class(files: TokenizerFiles, config: Mapping[str, Any]) -> str:
    named = str(files.settings.get("tokenizer_class") or "").removesuffix("Fast")
    if named in CLASS_SPLITS:
        return named
    model_type = str(config.get("model_type") or "")
    return next((name for start, name in _CLASS_BY_MODEL_TYPE.items() if model_type.startswith(start)), named)
