"""Read vocab.json and merges.txt, the older form of a byte-level BPE vocabulary, as the tokenizer.json they mean."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from toolkit.errors import TokenizerError
from toolkit.json_files import read_json_object
from toolkit.tokenizer.added_tokens import gather_added_tokens
from toolkit.tokenizer.bpe_model import checked_ids
from toolkit.tokenizer.files import TokenizerFiles
from toolkit.tokenizer.merges import read_merges_file
from toolkit.tokenizer.pre_tokenizer_table import CLASS_SPLITS

END_OF_TEXT = "<|endoftext|>"

_CLASS_BY_MODEL_TYPE = {
    "gpt": "GPT2Tokenizer",
    "starcoder": "GPT2Tokenizer",
    "phi": "GPT2Tokenizer",
    "qwen": "Qwen2Tokenizer",
}
_CLASS_ROLES = {"GPT2Tokenizer": ("bos", "eos", "unk"), "Qwen2Tokenizer": ("eos", "unk", "pad")}


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
